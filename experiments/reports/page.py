"""One self-contained HTML page per run: findings, figures, tables, and how it was run."""

import base64
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from experiments.reports.formulas import formulas, mathml
from experiments.reports.markdown import text_table
from experiments.reports.tables import Table, figures_table, table_of
from experiments.reports.words.captions import caption
from experiments.reports.words.findings import (
    findings,
    warnings_of_figures,
    warnings_of_training,
)
from experiments.reports.words.numbers import cell, columns_of
from experiments.reports.words.titles import subject, unit
from experiments.runs.files import write_text
from experiments.runs.metrics import Metrics
from experiments.runs.resuming import command_line
from experiments.runs.run import Run

WIDTH = 92
"""Characters of a line of prose on a terminal."""

Tables = Mapping[str, Table | Sequence[Mapping[str, Any]]]


def page_of(
    title: str,
    found: Sequence[str],
    tables: Tables,
    warnings: Sequence[str],
    figures: Sequence[Path],
    latex: Mapping[str, Sequence[str]],
    folded: Tables,
    command: str,
    directory: str,
) -> str:
    """The page; everything that came from outside is escaped, every picture is inside.

    Plain rows become a table by ``table_of``; the tables ``folded`` say how the figures were made.
    """
    title = escape(title)
    warning = '<p class="warning"><strong>Warning.</strong> '
    parts = [
        f"<h1>{title}</h1>",
        *(f"{warning}{escape(_sentence(words))}</p>" for words in warnings),
        *(f"<p>{escape(words)}</p>" for words in found),
        *map(_figure, figures),
        *(f"<h2>{escape(heading)}</h2>{_table(rows)}" for heading, rows in tables.items()),
    ]
    if latex:
        parts.append(_folded("Formulas", "".join(map(_formula, latex.items()))))
    parts += [_folded(heading, _table(rows)) for heading, rows in folded.items()]
    where = f"<p>The run directory is <code>{escape(directory)}</code>.</p>"
    parts.append(f"<h2>Run it again</h2><pre>{escape(command)}</pre>{where}")
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{style}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _sentence(words: str) -> str:
    """Words with a capital at the beginning and a full stop at the end."""
    return words[:1].upper() + words[1:].rstrip(".") + "."


def _figure(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    words = escape(caption(path.stem))
    return (
        f'<figure><img alt="{words}" src="data:image/png;base64,{data}">'
        f"<figcaption>{words}</figcaption></figure>"
    )


def _formula(part: tuple[str, Sequence[str]]) -> str:
    name, lines = part
    return f"<h3>{escape(name)}</h3>{''.join(map(mathml, lines))}"


def _folded(heading: str, content: str) -> str:
    return f"<details><summary>{escape(heading)}</summary>{content}</details>"


def _table(rows: Table | Sequence[Mapping[str, Any]]) -> str:
    table = rows if isinstance(rows, Table) else table_of(rows)
    words = f"<p>{escape(table.words)}</p>" if table.words else ""
    meaning = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in table.meaning.items()
    )
    if meaning:
        meaning = f'<dl class="meaning">{meaning}</dl>'
    every = _folded("All columns", _html_table(table.everything)) if table.everything else ""
    return words + _html_table(table.rows) + meaning + every


def _html_table(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    names = columns_of(rows)
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell(row.get(name)))}</td>" for name in names)
        for row in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def training_rows(run: Run, parameters: int) -> list[dict[str, Any]]:
    """How training went, a line per fact."""
    records = run.records
    facts = {
        "epochs": records[-1]["epoch"],
        "steps": records[-1]["steps"],
        "steps skipped": sum(record["skipped"] for record in records),
        "last loss [nats per data point]": records[-1]["loss"],
        "seconds of training": run.train_seconds,
        "of which compiling": run.compile_seconds,
        "parameters": parameters,
        "device": str(run.device),
    }
    return [{"fact": name, "value": value} for name, value in facts.items()]


def write_events(
    directory: Path, records: Sequence[dict[str, Any]], metrics: Mapping[str, Any]
) -> None:
    """Loss, rate and final figures of a run as TensorBoard events."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(directory / "tensorboard")) as writer:
        for record in records:
            for name in ("loss", "lr"):
                if record[name] is not None:  # else no step of the epoch was finite
                    writer.add_scalar(f"train/{name}", record[name], record["epoch"])
        for split in ("train", "test"):
            for name, value in (metrics.get(split) or {}).items():
                if isinstance(value, float):
                    writer.add_scalar(f"final/{split}_{name}", value, len(records))


def finish(
    run: Run,
    metrics: Metrics,
    title: str,
    found: Sequence[str],
    tables: Tables,
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """Write ``metrics.json``, TensorBoard events and the report of a run; print its findings.

    The warnings follow those of training, which are found in the run's log.
    """
    content = run.save_metrics(metrics)
    write_events(run.path, run.records, content)
    folded = {}
    if metrics.protocol:
        known = {k: v for k, v in metrics.protocol.items() if v is not None}
        folded["How it was measured"] = [{"field": k, "value": v} for k, v in known.items()]
    if run.lines:
        folded["How it was trained"] = training_rows(run, metrics.parameters)
    page = page_of(
        title,
        found,
        tables,
        [*warnings_of_training(run.records, metrics.data_changed), *warnings],
        run.figures,
        formulas(content),
        folded,
        shlex.join(command_line(run.command, run.config)),
        run.path.name,
    )
    path = write_text(run.path / "report.html", page)
    if found:
        lines = [textwrap.fill(words, WIDTH, break_on_hyphens=False) for words in found]
        run.say("\n" + "\n".join(lines) + "\n")
    for words in warnings:
        run.warn(words)
    run.say(f"report: {path}")
    return content


def finish_pair(
    run: Run,
    metrics: Metrics,
    tables: Tables | None = None,
    warnings: Sequence[str] = (),
    subtitle: str = "",
) -> dict[str, Any]:
    """Finish a run that has measured one pair: with its figures, and what they mean in words.

    The tables follow that of the figures; the warnings precede those that the figures give rise
    to; the subtitle follows the names of model, guide and data.
    """
    content = metrics.as_dict()
    title = subject(metrics.model, metrics.data, str(metrics.guide))
    table = figures_table(metrics.measured, unit(metrics.protocol))
    run.say(f"\n{table.words}\n{text_table(table.rows, ('split',))}")
    return finish(
        run,
        metrics,
        f"{title}: {subtitle}" if subtitle else title,
        findings(content),
        {"Figures": table} | dict(tables or {}),
        [*warnings, *warnings_of_figures(content)],
    )
