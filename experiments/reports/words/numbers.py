"""Numbers with only their significant digits."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

DECIMALS = 4
"""Maximum number of decimals of a figure in nats; smaller values are rounding and printed as 0."""

SMALL = 0.01
"""A squared error below this has significant digits instead of decimals."""


def number(value: float | None, error: float | None = None) -> str:
    """A figure with its standard error: ``0.8315 ± 0.0033``, ``22.4 ± 1.2``, ``17.654``.

    The error has two significant digits and the value as many decimals, at most four. What
    rounds to zero is ``0``, and an error that rounds to zero is left out.
    """
    if value is None or not math.isfinite(value):
        return "–" if value is None else str(value)
    if error and math.isfinite(error) and round(error, DECIMALS):
        decimals = min(DECIMALS, max(0, 1 - math.floor(math.log10(error))))
        return f"{_fixed(value, decimals)} ± {error:.{decimals}f}"
    return column([value])[0]


def squared(value: float | None, error: float | None = None) -> str:
    """A squared error as ``number``; of x in small units, ``3.2e-07 ± 4.1e-08``."""
    if not value or not abs(value) < SMALL:
        return number(value, error)
    if not error or not math.isfinite(error):
        return f"{value:.4g}"
    larger = math.floor(math.log10(abs(value))) - math.floor(math.log10(error))
    return f"{value:.{max(1, larger + 2)}g} ± {error:.2g}"


def positive(value: float, decimals: int) -> str:
    """A figure above zero: ``0.03``, or ``less than 0.01`` where it would be printed as zero."""
    text = f"{value:.{decimals}f}"
    return text if float(text) else f"less than {10**-decimals}"


def error_of(figures: Mapping[str, Any], name: str) -> float | None:
    """The standard error of a figure, over data and over the draws that they share, if they do.

    ``None`` if it is not known, as of fewer than ten shared draws.
    """
    over_data, over_draws = figures.get(f"{name}_se"), figures.get(f"{name}_draws_se", 0.0)
    if over_data is None or over_draws is None:
        return None
    return math.hypot(over_data, over_draws)


def _fixed(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}"
    return text if float(text) else "0"


def column(values: Sequence[float | None]) -> list[str]:
    """Figures of one column, all with the decimals of the largest."""
    known = [abs(value) for value in values if value is not None and math.isfinite(value)]
    largest = max(known, default=0.0)
    size = math.floor(math.log10(largest)) if largest else 0
    decimals = min(DECIMALS, max(0, DECIMALS - size))
    return ["–" if value is None else _fixed(value, decimals) for value in values]


def cell(value: Any) -> str:
    """Any value of a table; a float of no known unit has five significant digits."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(cell, value))
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def columns_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns that any row has, in order of appearance."""
    return list(dict.fromkeys(name for row in rows for name in row))


def merged(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows in which a figure and its error, ``name`` and ``name_se``, are one text.

    Columns in which every row has nothing are left out.
    """
    kept = [
        name
        for name in columns_of(rows)
        if not name.endswith("_se") and any(row.get(name) is not None for row in rows)
    ]
    return [{name: _with_error(row, name) for name in kept} for row in rows]


def _with_error(row: Mapping[str, Any], name: str) -> Any:
    value, error = row.get(name), row.get(f"{name}_se")
    if error is None or value is None:
        return value
    return (squared if name.endswith("squared_error") else number)(value, error)
