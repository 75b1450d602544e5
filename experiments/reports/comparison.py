"""The table of a comparison as CSV and Markdown, its bar plots and its report."""

import csv
import io
from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

from experiments.data import Data
from experiments.evaluation.comparison import Row, best
from experiments.evaluation.metrics import protocol
from experiments.reports import plots
from experiments.reports.page import cell, finish
from experiments.runs.files import write_text
from experiments.runs.metrics import Metrics
from experiments.runs.run import Run

__all__ = ["csv_table", "markdown_table", "save_comparison"]

HEADINGS = {
    "guide": "guide",
    "decoder": "decoder",
    "seed": "seed",
    "bound": "bound",
    "value": "value",
    "value_se": "± over images",
    "evidence": "log p(x), exact",
    "gap": "gap",
    "gap_se": "± gap",
    "exact_gap": "gap, closed form",
    "oracle_gap": "smallest diagonal gap of this W",
    "minus_best": "minus best, paired",
    "minus_best_se": "± paired",
    "squared_error": "squared error",
    "seconds_per_epoch": "s / epoch",
    "parameters": "parameters",
    "local_steps": "local steps",
}

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
            table += [row.figures(best(same, row.kind)) for row in same]
        figures += table
        tables[f"Decoder {decoder}: {WORDS[decoder]}"] = [
            {HEADINGS[name]: value for name, value in row.items()} for row in table
        ]
        run.say(f"\n{WORDS[decoder]}\n\n{printed(table)}")
        shortfall_bars(run, decoder, [row for row in table if row["seed"] == config.seed])
    plain = [{name: row[name] for name in HEADINGS} for row in figures]
    write_text(run.path / "table.csv", csv_table(plain))
    write_text(
        run.path / "table.md",
        markdown_table([{HEADINGS[n]: v for n, v in r.items()} for r in plain]),
    )
    metrics = Metrics(
        config.model,
        [row.entry.label for row in rows],
        data.name,
        protocol(data, None, config.particles) | {"rotated": config.rotate},
        seed=config.seed,
        epochs=config.epochs,
        parameters=max(row.parameters for row in rows),
        more={"rows": figures},
    )
    words = f"{config.model} with {config.model_options} on {len(data)} rows of {data.name}."
    return finish(run, metrics, words, tables)


def shortfall_bars(run: Run, decoder: str, table: Sequence[dict[str, Any]]) -> None:
    """How far every bound is below the exact evidence, or below the best bound without one."""
    known = all(row["gap"] is not None for row in table if row["bound"] != "log_joint")
    shown = [row for row in table if row["gap" if known else "minus_best"] is not None]
    if not shown:
        return
    short = [row["gap"] if known else -row["minus_best"] for row in shown]
    errors = [row["gap_se" if known else "minus_best_se"] for row in shown]
    oracle = shown[0]["oracle_gap"] if decoder == "frozen" else None
    label = f"{'log p(x)' if known else 'best bound'} - bound [nats per data point]"
    names = [row["guide"] for row in shown]
    figure = plots.bars(names, short, errors, oracle, label, "diagonal gap, closed form")
    run.figure(f"gap_{decoder}", figure)


def printed(table: Sequence[dict[str, Any]]) -> str:
    """The table for a terminal, with the mean over seeds below where there are several."""
    several = len({row["seed"] for row in table}) > 1
    rows = [
        {
            "guide": row["guide"] + (f" (seed {row['seed']})" if several else ""),
            "bound": row["bound"],
            "value": _number(row["value"], None),
            "log p(x)": _number(row["evidence"], None),
            "gap": _number(row["gap"], row["gap_se"]),
            "gap, closed form": _number(row["exact_gap"], None),
            "W's diagonal gap": _number(row["oracle_gap"], None),
            "minus best, paired": _number(row["minus_best"], row["minus_best_se"]),
            "squared error": _number(row["squared_error"], None),
            "s/epoch": _number(row["seconds_per_epoch"], None),
        }
        for row in table
    ]
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    lines = [
        "  ".join(
            f"{text:<{widths[name]}}" if name in ("guide", "bound") else f"{text:>{widths[name]}}"
            for name, text in line.items()
        )
        for line in ({name: name for name in rows[0]}, *rows)
    ]
    return "\n".join(lines + (over_seeds(table) if several else []))


def over_seeds(table: Sequence[dict[str, Any]]) -> list[str]:
    """For every guide the mean of its bound over the seeds, and their standard deviation."""
    lines = []
    for guide in dict.fromkeys(row["guide"] for row in table):
        values = [row["value"] for row in table if row["guide"] == guide]
        spread = f"{mean(values):.4f} ± {stdev(values):.4f}"
        lines.append(f"{guide}: {spread} over {len(values)} seeds (standard deviation)")
    return ["", *lines]


def _number(value: float | None, error: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if error is None else f"{value:.4f} ± {error:.4f}"
