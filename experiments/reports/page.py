"""One self-contained HTML page per run: what was run, its figures and its pictures."""

import base64
import html
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.reports.formulas import formulas, mathml
from experiments.runs.files import write_text
from experiments.runs.metrics import Metrics
from experiments.runs.resuming import command_line
from experiments.runs.run import Run

__all__ = ["finish", "html_table", "report", "training_row", "write_events"]

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0;display:block;overflow-x:auto}
td,th{padding:.25rem .7rem;border-bottom:1px solid #ddd;text-align:right}
td:first-child,th:first-child{text-align:left}
img{max-width:100%}figure{margin:1.5rem 0}figcaption{color:#555}code,pre{background:#f4f4f4}
pre{padding:.6rem;overflow-x:auto}
section{margin:.8rem 0;overflow-x:auto}h3{font-size:1rem;margin:.2rem 0}
math{margin:.3rem 0;text-align:left}
"""


def cell(value: Any) -> str:
    """A value as a reader wants to see it."""
    if value is None:
        return "–"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def html_table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows with the same keys as an HTML table."""
    if not rows:
        return ""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in rows[0])
    body = "".join(
        "<tr>"
        + "".join(f"<td>{html.escape(cell(value))}</td>" for value in row.values())
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def report(
    title: str,
    command: str,
    words: str,
    tables: Mapping[str, Sequence[dict[str, Any]]],
    figures: Sequence[Path],
    formulas: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """The page; everything that came from outside is escaped, every picture is inside.

    Args:
        title: of the page.
        command: that makes the run again.
        words: what was run.
        tables: by their headings, to which words may be added after a colon.
        figures: pictures.
        formulas: lines of LaTeX, by the name of what they say.
    """
    parts = [f"<p>{html.escape(words)}</p>", f"<pre>{html.escape(command)}</pre>"]
    for name, lines in (formulas or {}).items():
        shown = "".join(mathml(line) for line in lines)
        parts.append(f"<section><h3>{html.escape(name)}</h3>{shown}</section>")
    for heading, rows in tables.items():
        name, _, more = heading.partition(": ")
        parts.append(f"<h2>{html.escape(name)}</h2><p>{html.escape(more)}</p>{html_table(rows)}")
    for path in figures:
        data = base64.b64encode(path.read_bytes()).decode()
        name = html.escape(path.stem.replace("_", " "))
        parts.append(
            f'<figure><img alt="{name}" src="data:image/png;base64,{data}">'
            f"<figcaption>{name}</figcaption></figure>"
        )
    title = html.escape(title)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>'
        f"<body><h1>{title}</h1>{''.join(parts)}</body></html>\n"
    )


def training_row(run: Run, parameters: int) -> list[dict[str, Any]]:
    """How training went, as a table of one line."""
    records = run.records
    return [
        {
            "epochs": records[-1]["epoch"],
            "steps": records[-1]["steps"],
            "steps skipped": sum(record["skipped"] for record in records),
            "last loss [nats per data point]": records[-1]["loss"],
            "seconds": run.train_seconds,
            "of which compiling": run.compile_seconds,
            "parameters": parameters,
            "device": str(run.device),
        }
    ]


def write_events(
    directory: Path, records: Sequence[dict[str, Any]], metrics: Mapping[str, Any]
) -> None:
    """Loss, rate and final figures of a run as TensorBoard events."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(directory / "tensorboard")) as writer:
        for record in records:
            for name in ("loss", "lr"):
                if record[name] is None:  # no step of the epoch was finite
                    continue
                writer.add_scalar(f"train/{name}", record[name], record["epoch"])
        for split in ("train", "test"):
            for name, value in (metrics.get(split) or {}).items():
                if isinstance(value, float):
                    writer.add_scalar(f"final/{split}_{name}", value, len(records))


def finish(
    run: Run,
    metrics: Metrics,
    words: str,
    tables: Mapping[str, Sequence[dict[str, Any]]],
) -> dict[str, Any]:
    """Write ``metrics.json``, TensorBoard events and the report of a run, and say where it is.

    The protocol and, where something was trained, how training went follow the other tables.
    """
    content = run.save_metrics(metrics)
    write_events(run.path, run.records, content)
    command = shlex.join(command_line(run.command))
    title = f"{run.command} · {run.path.name}"
    shown = dict(tables)
    if metrics.protocol:
        shown["Protocol"] = [{"field": k, "value": v} for k, v in metrics.protocol.items()]
    if run.lines:
        shown["Training"] = training_row(run, metrics.parameters)
    page = report(title, command, words, shown, run.figures, formulas(content))
    path = write_text(run.path / "report.html", page)
    run.say(f"report: {path}")
    return content
