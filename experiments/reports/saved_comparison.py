"""Comparison of saved runs; refused if their figures do not measure the same thing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load_file
from torch import Tensor

from experiments.errors import UsageError
from experiments.evaluation.bounds import mean_and_error
from experiments.reports.markdown import csv_table, markdown_table
from experiments.reports.page import finish
from experiments.reports.tables import Table
from experiments.reports.words.comparisons import findings_of_runs
from experiments.reports.words.titles import DATA, counted, names_of, unit
from experiments.runs.files import read_json, reading, write_text
from experiments.runs.metrics import Metrics
from experiments.runs.run import Run

SAME_IMAGES = (
    "pixels",
    "binarize",
    "binarize_seed",
    "data",
    "split",
    "n",
    "shape",
    "mask",
    "given",
    "data_sha256",
)
"""Fields of the protocol that determine x."""

IF_KNOWN = ("measure", "local_steps")
"""Fields that must be equal if both runs have them."""

FOLDED = ("parameters", "objective", "epochs", "training seconds")
"""Columns that a report only shows under "All columns"."""

WORDS = {"data_sha256": "checksum of the images", "n": "number of images"}


class Saved(NamedTuple):
    """The final figures of a run, on the split of its protocol."""

    path: Path
    metrics: dict[str, Any]
    options: dict[str, Any]

    @property
    def protocol(self) -> dict[str, Any]:
        return self.metrics["protocol"]

    @property
    def figures(self) -> dict[str, Any]:
        return self.metrics[self.protocol["split"]]

    @property
    def trained(self) -> dict[str, Any]:
        """Objective, epochs and seconds of the training, its own or that of the run it is of."""
        return self.metrics.get("trained", self.metrics)

    @property
    def values(self) -> dict[str, Tensor]:
        """Values of every image, if the run kept them.

        Raises:
            UsageError: If the file is damaged.
        """
        path = self.path / "per_image.safetensors"
        with reading(path):
            return load_file(path) if path.exists() else {}


def read_runs(paths: Sequence[Path], figures: bool = True) -> list[Saved]:
    """Read finished runs; with ``figures``, each must have final figures of a split.

    Raises:
        UsageError: If one is not finished, or has no figures of images (a sample, a comparison).
    """
    runs = []
    for path in paths:
        metrics, config = read_json(path / "metrics.json"), read_json(path / "config.json")
        with reading(path / "metrics.json"):
            split = str((metrics["protocol"] or {}).get("split"))
            found = metrics.get(split)
            if figures and not (isinstance(found, dict) and "squared_error" in found):
                raise UsageError(f"{path} has no figures of images to compare.")
            options = config["options"] | config.get("of", {}).get("options", {})
            runs.append(Saved(path, metrics, options))
    return runs


def same_images(run: Saved) -> str:
    """The common part of the protocol of runs in one table, in words."""
    known = {name: run.protocol.get(name) for name in SAME_IMAGES}
    return ", ".join(f"{name} {value}" for name, value in known.items() if value is not None)


def check_same_images(runs: Sequence[Saved], if_known: Sequence[str] = IF_KNOWN) -> None:
    """Refuse runs that were not measured on the same x.

    The fields ``if_known`` must be equal where both runs have them.

    Raises:
        UsageError: Naming the first two runs that differ, and the fields.
    """
    first = runs[0]
    for run in runs[1:]:
        differing = [f for f in SAME_IMAGES if run.protocol.get(f) != first.protocol.get(f)]
        for field in if_known:
            a, b = first.protocol.get(field), run.protocol.get(field)
            if a and b and a != b:
                differing.append(field)
        if differing:
            words = "; ".join(
                f"{WORDS.get(f, f)} {str(first.protocol.get(f))[:12]} against "
                f"{str(run.protocol.get(f))[:12]}"
                for f in differing
            )
            raise UsageError(f"{first.path} and {run.path} cannot share a table: {words}.")


def bound_column(run: Saved) -> tuple[str, str]:
    """The name of the run's best figure, and its column: each estimator has its own."""
    figures = run.figures
    for name, heading in (("log_evidence", "log p(x), exact"), ("log_joint", "log joint")):
        if figures.get(name) is not None:
            return name, heading
    if figures.get("iw_bound") is not None:
        shared = " shared" if run.protocol["estimator"] == "shared_draws" else ""
        return "iw_bound", f"IW bound, {figures['iw_particles']}{shared} draws"
    return "elbo", "ELBO"


def table_of_runs(runs: Sequence[Saved]) -> list[dict[str, Any]]:
    """One line per run; a bound stands in the column of its own estimator."""
    columns: dict[str, None] = {}
    for run in runs:
        with reading(run.path / "metrics.json"):
            columns |= dict.fromkeys(_columns(run))
    table = []
    for name, run in zip(names_of([run.path for run in runs]), runs, strict=True):
        with reading(run.path / "metrics.json"):
            table.append({"run": name} | _line(run, runs[0], list(columns)))
    return table


def _line(run: Saved, first: Saved, columns: Sequence[str]) -> dict[str, Any]:
    shown, metrics, options = _columns(run), run.metrics, run.options
    line: dict[str, Any] = {
        "model": metrics["model"],
        "guide": metrics["guide"],
        "M": options.get("latent_dim") or (options.get("model_options") or {}).get("latent_dim"),
    }
    for column in columns:
        line[column] = _with_error(run, shown[column]) if column in shown else None
    return line | {
        "ELBO minus the first's, paired": _difference(first, run, "elbo"),
        "IW bound minus the first's, paired": _difference(first, run, "iw_bound"),
        "squared error": run.figures["squared_error"],
        "parameters": int(metrics["parameters"]),
        "objective": run.trained["objective"],
        "epochs": run.trained["epochs"],
        "training seconds": (run.trained["seconds"] or {}).get("train"),
    }


def save_table_of_runs(run: Run, saved: Sequence[Saved]) -> dict[str, Any]:
    """Print the table, save it as CSV and Markdown, and write metrics and report."""
    table = table_of_runs(saved)
    run.say(f"\n{markdown_table(table)}")
    changed = [one for one in saved if one.metrics.get("data_changed")]
    warnings = [f"of {one.path}: {one.metrics['data_changed']}" for one in changed]
    for words in warnings:
        run.say(f"warning: {words}.")
    write_text(run.path / "table.md", markdown_table(table))
    write_text(run.path / "table.csv", csv_table(table))
    first = saved[0]
    metrics = Metrics(
        first.metrics["model"],
        [one.metrics["guide"] for one in saved],
        first.protocol["data"],
        first.protocol,
        seed=run.config.seed,
        parameters=max(one.metrics["parameters"] for one in saved),
        more={"runs": table},
    )
    one, rows = unit(first.protocol), first.protocol["n"]
    data = DATA.get(first.protocol["data"], first.protocol["data"])
    title = f"{counted(len(saved), 'run').capitalize()} on the same {rows} {one}s of {data}"
    few = [{name: row[name] for name in row if name not in FOLDED} for row in table]
    tables = {f"Nats per {one}": Table(few, everything=table)}
    lines = zip(table, saved, strict=True)
    found = [(line["run"], run.figures, bound_column(run)) for line, run in lines]
    return finish(run, metrics, title, findings_of_runs(found, one), tables, warnings)


def _columns(run: Saved) -> dict[str, str]:
    """Heading -> figure. Where log p(x) is exact, the ELBO of the exact guide is the same."""
    name, heading = bound_column(run)
    columns = {heading: name} if run.figures.get(name) is not None else {}
    own_draws = run.protocol["estimator"] not in ("exact", "shared_draws")
    if name != "elbo" and run.figures.get("elbo") is not None and own_draws:
        columns["ELBO"] = "elbo"
    return columns


def _with_error(run: Saved, name: str) -> str:
    """A figure with its standard errors: over images, and over draws where they are shared."""
    text = f"{run.figures[name]:.2f}"
    if name == "log_evidence" and name in run.values:
        text += f" ± {mean_and_error(run.values[name])[1]:.2f}"
    for kind, words in (("se", ""), ("draws_se", " (draws)")):
        error = run.figures.get(f"{name}_{kind}")
        text += "" if error is None else f" ± {error:.2f}{words}"
    if f"{name}_draws_se" in run.figures and run.figures[f"{name}_draws_se"] is None:
        text += ", error of the draws unknown"
    return text


def _difference(first: Saved, other: Saved, name: str) -> str | None:
    """Image by image, where both runs have such a bound of their own and kept every image's."""
    runs = (first, other)
    comparable = all(
        run.figures.get(name) is not None and run.protocol["estimator"] != "shared_draws"
        for run in runs
    )
    same = name == "elbo" or first.figures.get("iw_particles") == other.figures.get("iw_particles")
    if first is other or not comparable or not same:
        return None
    values = [run.values.get(name) for run in runs]
    if values[0] is None or values[1] is None:
        return None
    return with_error(values[1] - values[0])


def with_error(values: Tensor) -> str:
    """Mean over images and its standard error."""
    mean, error = mean_and_error(values)
    return f"{mean:.3f} ± {error:.3f}"
