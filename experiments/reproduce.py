"""Does this code reach the published results? A table, row by row, with its protocol.

lab: PCA, PPCA, the nonlinear model, the VAE, and the VAE with more latents. iwae: Burda, Grosse &
Salakhutdinov (2016), one stochastic layer. guides: the decoder of that paper frozen, and what each
guide loses. Each row is an ordinary run under --out, and so is its evaluation, so every row can be
sampled and refitted; --resume continues an unfinished table.

    python -m experiments.reproduce lab --out runs/lab
    python -m experiments.reproduce iwae --out runs/iwae
    python -m experiments.reproduce iwae --out runs/iwae --entries iwae-5 --resume
    python -m experiments.reproduce guides --out runs/guides
"""

import dataclasses
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from tqdm import tqdm

from experiments.errors import UsageError
from experiments.options.commands import module_of
from experiments.options.published import TABLES, Row
from experiments.options.ranges import Count, Positive, Seed, Several
from experiments.reports import plots
from experiments.reports.gap_table import table_of_gaps
from experiments.reports.markdown import markdown_table
from experiments.reports.saved_comparison import (
    check_same_images,
    read_runs,
    same_images,
    table_of_runs,
)
from experiments.runs.cli import cli
from experiments.runs.directory import RunDirectory, set_aside
from experiments.runs.environment import pick_device, plain
from experiments.runs.files import read_json, reading, write, write_json, write_text
from experiments.runs.lock import Lock
from experiments.runs.resuming import is_finished
from experiments.runs.signals import Interrupted
from experiments.tools import evaluate, gaps
from ppl_models.names import unknown

DECIDES = ("name", "epochs", "samples", "images", "data", "rows", "seed")
"""Options that must stay the same when a table is continued."""


@dataclass(frozen=True)
class Config:
    name: tyro.conf.Positional[Literal["lab", "iwae", "guides"]]
    """Table to reproduce."""
    entries: tuple[str, ...] | None = None
    """Rows of the table to run; by default all, but iwae-50 only on a GPU."""
    epochs: Count | None = None
    """Passes over the data; by default as in the protocol of each row."""
    samples: Count | None = None
    """Importance samples per test image; by default as in the protocol of each row."""
    images: Several = 500
    """Number of test images for measuring inference gaps."""
    data: Literal["mnist", "fashion_mnist", "kmnist", "digits"] = "mnist"
    """Data set; the published figures are for mnist."""
    data_root: Path | None = None
    """Directory of the data; by default $PPL_DATA, else ./data."""
    rows: Count | None = None
    """Number of training images to use, from the first; by default all."""
    seed: Seed = 0
    """Seed of initial parameters, data order and noise."""
    device: str = "auto"
    """cpu, cuda, ...; auto uses a GPU if there is one."""
    memory: Positive = 2.0
    """Memory limit for intermediate values of an evaluation [GiB]."""
    resume: bool = False
    """Continue the table in --out."""
    out: Path | None = None
    """Directory of the rows' runs; by default runs/reproduce-<time>."""


def main(config: Config) -> dict[str, Any]:
    table = TABLES[config.name]
    gpu = pick_device(config.device).type == "cuda"
    names = config.entries or [name for name in table if gpu or name != "iwae-50"]
    if others := [name for name in names if name not in table]:
        raise UsageError(unknown("row", others[0], table))
    place = RunDirectory("reproduce", config.out, config.resume)
    try:
        check_table(place.path, config)
        with Lock(place.path):
            run_rows(names, table, place, config)
            save_gaps(place.path, [name for name, row in table.items() if row.gaps])
            return {"table": save(place.path, table)}
    finally:
        place.remove()


def run_rows(
    names: Sequence[str], table: dict[str, Row], place: RunDirectory, config: Config
) -> None:
    """Train and measure every row, unless that is done."""
    out = place.path
    try:
        if not config.resume:
            options = plain(dataclasses.asdict(config))
            asked = {name: options[name] for name in DECIDES}
            write_json(out / "config.json", {"command": "reproduce", "options": asked})
        for name in names:
            tqdm.write(f"\n{name}: {out / name}")
            row = table[name]
            if row.of and not is_finished(out / row.of):
                raise UsageError(f"--entries: {name} needs {row.of}, which comes first.")
            train(row, out / name, config)
            measure(row, out / name, config)
    except BaseException as error:
        if isinstance(error, Interrupted):
            error.directory = out  # the table is continued, not the row
        place.empty(begun=any(path.is_dir() for path in out.iterdir()))
        raise


def check_table(out: Path, config: Config) -> None:
    """Refuse to continue a directory that holds no table, or a table of other options."""
    if not config.resume:
        return
    path = out / "config.json"
    saved = read_json(path)
    with reading(path):
        if saved["command"] != "reproduce":
            raise UsageError(f"{out} contains no table to continue.")
        then, asked = {**saved["options"]}, plain(dataclasses.asdict(config))
    differing = [name for name in DECIDES if then.get(name, asked[name]) != asked[name]]
    if differing:
        raise UsageError(f"--resume with other options: {', '.join(differing)} differ.")


def train(row: Row, out: Path, config: Config) -> None:
    """Train a row, or continue it, unless it is finished."""
    if is_finished(out) or row.command is None:
        return
    command = importlib.import_module(module_of(row.command))
    of_data = getattr(command.Config, "OF_DATA", {}).get(config.data, {})
    values = dataclasses.asdict(config) | of_data | row.options
    values |= {"out": out, "resume": out.exists()}
    if row.of:
        values["run"] = out.with_name(row.of)
    values["epochs"] = config.epochs or row.options.get("epochs", 20)
    accepted = {f.name for f in dataclasses.fields(command.Config)} - {"name"}
    if out.exists() and "resume" not in accepted:
        set_aside(out)
    command.main(command.Config(**{k: v for k, v in values.items() if k in accepted}))


def evaluation_of(run: Path) -> Path:
    return run.with_name(f"{run.name}-evaluated")


def gaps_of(run: Path) -> Path:
    return run.with_name(f"{run.name}-gaps")


def measure(row: Row, run: Path, config: Config) -> None:
    """Evaluate a trained row on the test images and measure its gaps, where the table asks."""
    if row.samples is not None:
        particles = config.samples or row.samples
        run_once(evaluate, run, evaluation_of(run), config, particles=particles)
    if row.gaps is not None:
        source = run if row.command else run.with_name(str(row.of))
        options = {"particles": config.samples or gaps.Config.particles, "images": config.images}
        run_once(gaps, source, gaps_of(run), config, **options, **row.gaps)


def run_once(command: Any, run: Path, out: Path, config: Config, **options: Any) -> None:
    """Run a command on a trained row, unless that is done."""
    if is_finished(out):
        return
    if out.exists():
        set_aside(out)  # stopped before its figures
    shared = {name: getattr(config, name) for name in ("data_root", "seed", "device", "memory")}
    command.main(command.Config(run, out=out, **shared, **options))


def save_gaps(out: Path, names: list[str]) -> None:
    """Print and save what the rows' guides lose, side by side, as far as it is measured."""
    done = {name: gaps_of(out / name) for name in names if is_finished(gaps_of(out / name))}
    if not done:
        return
    found = table_of_gaps(done)
    text = f"{markdown_table(found.rows)}\n{found.words}\n"
    write_text(out / "gaps.md", text)
    write_json(out / "gaps.json", {"protocol": found.protocol, "rows": found.rows})
    figure = plots.stacked(list(done), found.parts, "log p(x) - ELBO [nats per image]")
    write(out / "gaps.png", lambda path: figure.savefig(path, dpi=110, format="png"))
    tqdm.write(f"\n{text}saved as {out / 'gaps.md'}")


def save(out: Path, table: dict[str, Row]) -> list[dict[str, Any]]:
    """Print and save the table of all rows that are done, published figures beside them."""
    figures = {
        name: out / name if row.samples is None else evaluation_of(out / name)
        for name, row in table.items()
    }
    done = {name: path for name, path in figures.items() if is_finished(path)}
    if not done:
        tqdm.write(f"{out}: no row has figures for a table yet.")
        return []
    runs = read_runs(list(done.values()))
    check_same_images(runs)
    lines = table_of_runs(runs)
    mnist = runs[0].protocol["data"] == "mnist"
    for name, line in zip(done, lines, strict=True):
        line |= {"run": name, "published": table[name].published if mnist else None}
    text = f"{markdown_table(lines)}\nNats per test image; {same_images(runs[0])}.\n"
    write_text(out / "table.md", text)
    write_json(out / "table.json", {"protocol": runs[0].protocol, "rows": lines})
    tqdm.write(f"\n{text}saved as {out / 'table.md'}")
    return lines


if __name__ == "__main__":
    cli(Config, main)
