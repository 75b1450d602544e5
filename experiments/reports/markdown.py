"""Rows as Markdown, as CSV, and as columns on a terminal."""

import csv
import io
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from experiments.reports.words.numbers import cell, columns_of


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    names = columns_of(rows)
    head = "| " + " | ".join(map(_escaped, names)) + " |\n|" + " --- |" * len(names) + "\n"
    cells = ([_escaped(row.get(name, "")) for name in names] for row in rows)
    return head + "".join("| " + " | ".join(line) + " |\n" for line in cells)


def _escaped(value: Any) -> str:
    """A cell, in which a bar begins no column."""
    return cell(value).replace("|", r"\|")


def csv_table(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=columns_of(rows), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def text_table(rows: Sequence[Mapping[str, Any]], left: Collection[str] = ()) -> str:
    """Columns that are aligned to the right, those of ``left`` to the left."""
    names = columns_of(rows)
    cells = [{name: cell(row.get(name, "")) for name in names} for row in rows]
    widths = {name: max(len(name), *(len(row[name]) for row in cells)) for name in names}
    return "\n".join(
        "  ".join(
            f"{text:<{widths[name]}}" if name in left else f"{text:>{widths[name]}}"
            for name, text in line.items()
        ).rstrip()
        for line in ({name: name for name in names}, *cells)
    )
