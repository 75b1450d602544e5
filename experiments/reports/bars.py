"""Horizontal bars with their values beside them, so that labels cannot overlap."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from experiments.reports.words.numbers import number

CUT = 4.0
"""A bar that is longer than this multiple of the next one is cut and marked."""


def bars(
    names: Sequence[str],
    values: Sequence[float],
    label: str,
    errors: Sequence[float | None] | None = None,
    line: float | None = None,
    line_name: str = "",
    linear: bool = True,
) -> Figure:
    """Horizontal bars from top to bottom, their values beside them, and a line to compare with.

    A bar far longer than all others is cut, so that the others can be read. An error is None where
    the value is exact. Bars start from zero where ``linear``; else the axis is logarithmic, and 0
    has no bar.
    """
    count, errors = len(names), errors or [None] * len(names)
    positive = [value for value in values if value > 0] or [1.0]
    start = 0.0 if linear else min(positive) / 2
    height = 0.42 * count + (1.5 if line_name else 1.1)
    figure = Figure(figsize=(6.4, height), layout="constrained")
    axis = figure.subplots()
    ends = [value + (error or 0.0) for value, error in zip(values, errors, strict=True)]
    limit = _limit([*ends, line or 0.0]) if linear else max(ends)
    for place, (value, error, end) in enumerate(zip(values, errors, ends, strict=True)):
        cut = linear and end > limit
        shown = limit if cut else value
        spread = error if error and not cut else None
        axis.barh(place, shown, 0.62, xerr=spread, capsize=3, color="tab:blue", alpha=0.8)
        text = f"{number(value, error)}{' →' if cut else ''}"
        at = max(limit if cut else end, start)
        axis.annotate(text, (at, place), (6, 0), textcoords="offset points", va="center")
    axis.set_yticks(range(count), names)
    axis.invert_yaxis()
    axis.set_xlabel(label)
    if line is not None:
        axis.axvline(line, color="tab:red", lw=1.5, ls="--", label=f"{line_name}: {line:.2f}")
        axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)
    if linear:
        low = min(0.0, *(v - (e or 0.0) for v, e in zip(values, errors, strict=True)))
        axis.set_xlim(1.05 * low, 1.35 * limit)
    else:  # from the smallest to the largest over orders of magnitude
        axis.set_xscale("log")
        axis.set_xlim(start, 6 * max(positive))
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    return figure


def _limit(ends: Sequence[float]) -> float:
    """The end of the axis: the longest bar, unless it is far longer than all others."""
    *_, second, longest = sorted([0.0, *ends])
    return 1.3 * second if 0 < CUT * second < longest else max(longest, 1e-3)


def stacked(names: Sequence[str], parts: dict[str, list[float]], label: str) -> Figure:
    """Horizontal bars of several parts, one after the other; a part below zero counts as none."""
    figure = Figure(figsize=(6.4, 0.42 * len(names) + 1.5), layout="constrained")
    axis = figure.subplots()
    left = np.zeros(len(names))
    for name, values in parts.items():
        width = np.maximum(values, 0)
        axis.barh(range(len(names)), width, 0.62, left=left, label=name, alpha=0.8)
        left += width
    for place, total in enumerate(left):
        axis.text(total, place, f"  {total:.2f}", va="center")
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set(xlabel=label, xlim=(0, 1.15 * max(left.max(), 1e-3)))
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(parts), frameon=False)
    return figure
