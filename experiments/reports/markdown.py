"""Rows as Markdown, as CSV, and as columns on a terminal."""

import csv
import io
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from experiments.reports.words.numbers import cell


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    head = "| " + " | ".join(map(_escaped, rows[0])) + " |\n|" + " --- |" * len(rows[0]) + "\n"
    return head + "".join("| " + " | ".join(map(_escaped, row.values())) + " |\n" for row in rows)


def _escaped(value: Any) -> str:
    """A cell, in which a bar begins no column."""
    return cell(value).replace("|", r"\|")


def csv_table(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def text_table(rows: Sequence[Mapping[str, Any]], left: Collection[str] = ()) -> str:
    """Columns that are aligned to the right, those of ``left`` to the left."""
    cells = [{name: cell(value) for name, value in row.items()} for row in rows]
    widths = {name: max(len(name), *(len(row[name]) for row in cells)) for name in rows[0]}
    return "\n".join(
        "  ".join(
            f"{text:<{widths[name]}}" if name in left else f"{text:>{widths[name]}}"
            for name, text in line.items()
        ).rstrip()
        for line in ({name: name for name in rows[0]}, *cells)
    )
