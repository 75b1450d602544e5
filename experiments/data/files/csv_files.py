"""CSV files: numeric columns, and at most one column of classes."""

import csv
import math
import re
from array import array
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.errors import UsageError

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf|infinity)", re.I | re.A)
"""A number; Python's float() would also accept underscores and other digits."""

COMMAS = re.compile(r"[+-]?(\d*,\d+|\d{1,3}(,\d{3})+(\.\d*)?)", re.A)
"""A number with a decimal comma, or with commas as thousands separators."""

MISSING = {"", "?", "#n/a", "na", "n/a", "nan", "none", "null", "<na>"}
"""Words for a missing value, in lower case, as pandas, R and the UCI repository write them."""


class Table(NamedTuple):
    """Numbers ``[N, D]``, the class names of the rows, and the names of the columns."""

    values: np.ndarray
    labels: list[str] | None
    columns: list[str]


def read_csv(path: Path, label: str | None) -> Table:
    """The numeric columns of a file, in UTF-8, separated by commas, semicolons or tabs.

    Raises:
        UsageError: With the column that is text, or the line that is ragged, empty or not a
            number.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            written = ((k, line) for k, line in enumerate(file) if line.strip(" \r\n"))
            blank, first = next(written, (math.inf, ""))
            file.seek(0)
            delimiter = max(",;\t", key=first.count)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            lines = [(reader.line_num, [field.strip() for field in row]) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} is not a CSV file in UTF-8 ({error}).") from error
    lines = [(number, row) for number, row in lines if number > blank]
    if not lines:
        raise UsageError(f"{path} is empty.")
    _refuse_counted(path, lines)
    names, lines = _header(lines)
    for line, row in lines:
        if len(row) != len(names):
            raise UsageError(
                f"{path} is ragged: line {line} has {len(row)} fields, others {len(names)}."
            )
    labelled = _label_column(path, names, label)
    kept = [place for place in range(len(names)) if place != labelled]
    if kept and (not names[kept[0]] or names[kept[0]].startswith("Unnamed: ")):
        raise UsageError(
            f"{path}: the first column has no name, so it holds names of the rows: leave it out "
            "(to_csv(index=False); row.names=FALSE in R), or name the column."
        )
    values = _numbers(path, names, lines, kept)
    labels = None
    if labelled is not None:
        labels = [row[labelled] for _, row in lines]
        for (line, _), word in zip(lines, labels, strict=True):
            if word.lower() in MISSING:
                raise UsageError(
                    f"{path}: line {line} has no class in column '{label}': {word!r} stands for a "
                    "missing value. Leave the row out, or give the class another name."
                )
    return Table(values, labels, [names[place] for place in kept])


def _refuse_counted(path: Path, lines: list[tuple[int, list[str]]]) -> None:
    """Refuse a first line that counts, such as pandas' 0, 1, 2, ..., years or wavelengths."""
    first, *next_ones = (row for _, row in lines[:3])
    if not _counts(first) or (len(first) > 2 and next_ones and all(map(_rises, next_ones))):
        return  # the others count, too
    binary = all(field in ("0", "1") for _, row in lines for field in row)
    if not binary:  # else 0,1 is a row
        raise UsageError(
            f"{path}: the first line counts the columns or rises in equal steps, as names do: "
            "leave it out (to_csv(header=False, index=False)), or name the columns."
        )


def _counts(row: list[str]) -> bool:
    """Whether a line is 0, 1, ... or 1, 2, 3, ..., or has at least five numbers in equal steps."""
    if not _rises(row):
        return False
    first, second = float(row[0]), float(row[1])
    by_ones = second - first == 1 and (first == 0 or (first == 1 and len(row) > 2))
    return by_ones or len(row) >= 5


def _rises(row: list[str]) -> bool:
    """Whether a line has at least two numbers, in equal steps other than zero."""
    if len(row) < 2 or not all(NUMBER.fullmatch(field) for field in row):
        return False
    steps = np.diff(np.array(row, float))
    return bool(steps[0] != 0 and np.allclose(steps, steps[0], 1e-6, 0))


def _header(lines: list[tuple[int, list[str]]]) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Names of the columns: the first line if it looks like names, else their numbers from 0."""
    (_, first), below = lines[0], lines[1:]
    text = [place for place, field in enumerate(first) if not NUMBER.fullmatch(field)]
    gaps = [place for place in text if first[place].lower() in MISSING and (place or first[0])]
    fractions = [
        field for place, field in enumerate(first) if place not in text and not field.isdecimal()
    ]
    again = any(
        place < len(row) and first[place] and row[place] == first[place]
        for _, row in below
        for place in text
    )
    if len(gaps) == len(text) < len(first) or fractions or again:  # a line of data
        return [str(place) for place in range(len(first))], lines
    return first, below


def _label_column(path: Path, names: list[str], label: str | None) -> int | None:
    if label is None:
        return None
    if names.count(label) != 1:
        what = "no column" if label not in names else "several columns"
        shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        raise UsageError(f"{path} has {what} '{label}'; it has {shown}.")
    return names.index(label)


def _numbers(
    path: Path, names: list[str], lines: list[tuple[int, list[str]]], kept: list[int]
) -> np.ndarray:
    text = [
        place
        for place in kept
        if not any(NUMBER.fullmatch(row[place]) for _, row in lines)
        and any(row[place] for _, row in lines)
    ]
    if text:
        for line, row in lines:
            for place in text:
                _refuse_comma(path, line, names[place], row[place])
        columns = ", ".join(names[place] for place in text[:10])
        raise UsageError(
            f"{path} has columns of text ({columns}): leave them out; classes are named by "
            "--label COLUMN."
        )
    values = array("d")
    for line, row in lines:
        for place in kept:
            field = row[place]
            if not NUMBER.fullmatch(field):
                _refuse_comma(path, line, names[place], field)
                what = f"holds {field[:30]!r}" if field else "is empty"
                raise UsageError(
                    f"{path}: line {line}, column '{names[place]}' {what}, which is not a number."
                )
            values.append(float(field))
    return np.array(values).reshape(len(lines), len(kept))


def _refuse_comma(path: Path, line: int, name: str, field: str) -> None:
    if COMMAS.fullmatch(field):
        raise UsageError(
            f"{path}: line {line}, column '{name}' holds {field[:30]!r}: decimals are written "
            "with a point, and thousands without a separator."
        )
