"""The table of a comparison as CSV and Markdown, its bar plots and its report."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.data import Data
from experiments.evaluation.comparison import Row, best
from experiments.runs import plots
from experiments.runs.files import write
from experiments.runs.metrics import protocol
from experiments.runs.report import cell
from experiments.runs.run import Run

__all__ = ["csv_table", "markdown_table", "save_comparison"]

HEADINGS = {
    "guide": "guide", "decoder": "decoder", "seed": "seed", "bound": "bound", "value": "value",
    "value_se": "± over images", "evidence": "log p(x), exact", "gap": "gap", "gap_se": "± gap",
    "oracle_gap": "smallest diagonal gap of this W", "minus_best": "minus best, paired",
    "minus_best_se": "± paired", "squared_error": "squared error",
    "seconds_per_epoch": "s / epoch", "parameters": "parameters",
    "local_steps": "local steps",
}  # fmt: skip

WORDS = {
    "frozen": "p is frozen at its maximum of the likelihood: each gap is the guide's own.",
    "learned": "p is learned together with each guide, which therefore shapes p: compare the "
    "exact log p(x) that each pair ends at, and the gap that remains.",
}


def markdown_table(rows: Sequence[dict[str, Any]]) -> str:
    head = "| " + " | ".join(rows[0]) + " |\n|" + " --- |" * len(rows[0]) + "\n"
    return head + "".join(
        "| " + " | ".join(cell(value) for value in row.values()) + " |\n" for row in rows
    )


def csv_table(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def save_comparison(run: Run, rows: list[Row], data: Data) -> dict[str, Any]:
    """Print the tables, save them with the plots, and write metrics and report."""
    config = run.config
    figures, tables = [], {}
    for decoder in dict.fromkeys(row.decoder for row in rows):
        part = [row for row in rows if row.decoder == decoder]
        table = []
        for seed in dict.fromkeys(row.seed for row in part):
            same = [row for row in part if row.seed == seed]
            table += [row.figures(best(same)) for row in same]
        figures += table
        tables[f"Decoder {decoder}: {WORDS[decoder]}"] = [
            {HEADINGS[name]: value for name, value in row.items()} for row in table
        ]
        run.say(f"\n{WORDS[decoder]}\n\n{printed(table)}")
        first = [row for row in table if row["seed"] == config.seed and row["gap"] is not None]
        if first:
            oracle = first[0]["oracle_gap"] if decoder == "frozen" else None
            run.figure(
                f"gap_{decoder}",
                plots.bars(
                    [row["guide"] for row in first], [row["gap"] for row in first],
                    [row["gap_se"] for row in first], oracle,
                    "log p(x) - bound [nats per data point]", "diagonal gap, closed form",
                ),
            )  # fmt: skip
    plain = [{name: row[name] for name in HEADINGS} for row in figures]
    _save(run.path / "table.csv", csv_table(plain))
    _save(
        run.path / "table.md",
        markdown_table([{HEADINGS[n]: v for n, v in r.items()} for r in plain]),
    )
    metrics = {
        "model": config.model, "guide": [row.entry.label for row in rows], "objective": None,
        "data": data.name, "seed": config.seed, "epochs": config.epochs,
        "parameters": max(row.parameters for row in rows), "seconds": {},
        "protocol": protocol(data, None, config.particles) | {"rotated": config.rotate},
        "rows": figures,
    }  # fmt: skip
    words = f"{config.model} with {config.model_options} on {len(data)} rows of {data.name}."
    return run.finish(metrics, words, tables)


def _save(path: Path, text: str) -> None:
    write(path, lambda file: file.write_text(text))


def printed(table: Sequence[dict[str, Any]]) -> str:
    """The table for a terminal."""
    rows = [
        {
            "guide": row["guide"],
            "bound": row["bound"],
            "value": _number(row["value"], None),
            "log p(x)": _number(row["evidence"], None),
            "gap": _number(row["gap"], row["gap_se"]),
            "W's diagonal gap": _number(row["oracle_gap"], None),
            "minus best, paired": _number(row["minus_best"], row["minus_best_se"]),
            "squared error": _number(row["squared_error"], None),
            "s/epoch": _number(row["seconds_per_epoch"], None),
        }
        for row in table
    ]
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    lines = [{name: name for name in rows[0]}, *rows]
    return "\n".join(
        "  ".join(
            f"{text:<{widths[name]}}" if name in ("guide", "bound") else f"{text:>{widths[name]}}"
            for name, text in line.items()
        )
        for line in lines
    )


def _number(value: float | None, error: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if error is None else f"{value:.4f} ± {error:.4f}"
