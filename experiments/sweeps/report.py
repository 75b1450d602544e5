"""The table of a sweep, its means over seeds, and a picture."""

from collections.abc import Mapping, Sequence
from math import nan, sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from matplotlib.figure import Figure

from experiments.reports.markdown import markdown_table
from experiments.reports.plots import lines_with_errors
from experiments.reports.saved_comparison import SAME_IMAGES
from experiments.reports.words.numbers import merged
from experiments.runs.files import write, write_json, write_text
from experiments.sweeps.grid import Grid
from experiments.sweeps.plan import Planned

NATS = dict.fromkeys(("elbo", "iw_bound", "log_evidence", "log_joint"), "nats per data point")
UNITS = NATS | {"train": "s", "total": "s", "peak_gib": "GiB"}  # by the last part of a name


def rows_of(
    runs: Sequence[Planned], errors: Mapping[str, str | None], figures: Sequence[str]
) -> list[dict[str, Any]]:
    """One row per run: its point, its available figures, and its error."""
    rows = []
    for run in runs:
        metrics = {} if errors.get(run.name) else run.metrics()
        found = {name: _at(metrics, name) for name in figures}
        rows.append({**run.point, **found, "error": errors.get(run.name)})
    empty = {name for name in (*figures, "error") if all(row[name] is None for row in rows)}
    return [{k: value for k, value in row.items() if k not in empty} for row in rows]


def _at(metrics: Any, name: str) -> Any:
    """A number by its path, such as ``test.elbo``; None if there is none."""
    for part in name.split("."):
        metrics = metrics.get(part) if isinstance(metrics, dict) else None
    return metrics if isinstance(metrics, (int, float)) else None


def over_seeds(rows: Sequence[dict[str, Any]], axes: Sequence[str]) -> list[dict[str, Any]]:
    """Means of the figures over seeds, with standard errors if there are several runs.

    These errors take the place of those that each run has for the same figure.
    """
    kept = [name for name in axes if name != "seed"]
    errors = {f"{name}_se" for name in rows[0]}
    figures = [name for name in rows[0] if name not in {*axes, *errors, "error"}]
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in kept), []).append(row)
    table = []
    for point, same in groups.items():
        line: dict[str, Any] = dict(zip(kept, point, strict=True))
        line["runs"] = sum(row.get("error") is None for row in same)
        for name in figures:
            values = [row[name] for row in same if row[name] is not None]
            several = len(values) > 1
            line[name] = mean(values) if values else None
            line[f"{name}_se"] = stdev(values) / sqrt(len(values)) if several else None
        table.append(line)
    return table


def what_differs(runs: Sequence[Planned]) -> list[str]:
    """Fields of the finished runs' protocols that make their figures incomparable."""
    found = [run.metrics().get("protocol") for run in runs]
    protocols = [protocol for protocol in found if isinstance(protocol, dict)]
    values = {field: {str(p.get(field)) for p in protocols} for field in SAME_IMAGES}
    values["measure"] = {p["measure"] for p in protocols if p.get("measure")}
    return [field for field, different in values.items() if len(different) > 1]


def picture(table: Sequence[dict[str, Any]], axes: Mapping[str, Sequence[str]]) -> Figure | None:
    """Plot the first figure against the numeric axis, a line per combination of the others.

    None if only the seed varies, or there are too many lines to distinguish.
    """
    several = [name for name, values in axes.items() if name != "seed" and len(values) > 1]
    numeric = [name for name in several if all(map(_is_number, axes[name]))]
    figure = next((name for name in table[0] if f"{name}_se" in table[0]), None)
    if not several or figure is None:
        return None
    along = numeric[-1] if numeric else several[-1]
    lines: dict[str, list[tuple[str, float, float]]] = {}
    for row in table:
        if row[figure] is not None:
            label = ", ".join(f"{name}={row[name]}" for name in several if name != along)
            point = (row[along], row[figure], row[f"{figure}_se"] or nan)  # of one run, no bar
            lines.setdefault(label, []).append(point)
    if not lines or len(lines) > 10:
        return None
    unit = UNITS.get(figure.rpartition(".")[2])
    ylabel = f"{figure} [{unit}]" if unit else figure
    return lines_with_errors(lines, along, ylabel, bool(numeric))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def save_sweep(
    out: Path, command: str, grid: Grid, runs: Sequence[Planned], rows: list[dict[str, Any]]
) -> dict[str, Any]:
    """Write ``metrics.json``, ``table.md`` and ``figure.png``; the metrics and the text."""
    differing = what_differs(runs)
    table = over_seeds(rows, list(grid.axes))
    several = len(grid.axes.get("seed", ())) > 1
    shown = [(name, UNITS.get(name.rpartition(".")[2])) for name in rows[0]]
    text = markdown_table(rows)
    if several:
        text += f"\nMean over seeds ± standard error:\n\n{markdown_table(merged(table))}"
    text += f"\n{', '.join(f'{name} in {unit}' for name, unit in shown if unit)}\n"
    if differing:
        text += f"\nNot all rows are comparable: the runs differ in {', '.join(differing)}.\n"
    write_text(out / "table.md", text)
    drawn = None if differing else picture(table, grid.axes)
    (out / "figure.png").unlink(missing_ok=True)  # of a smaller grid, perhaps
    if drawn is not None:
        write(out / "figure.png", lambda path: drawn.savefig(path, dpi=110, format="png"))
    metrics = {
        "command": command,
        "grid": grid.axes,
        "with": grid.shared,
        "differ": differing,
        "rows": rows,
        "over_seeds": table if several else None,
    }
    write_json(out / "metrics.json", metrics)
    return metrics | {"text": text, "figure": drawn is not None}
