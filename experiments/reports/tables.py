"""Tables of a report: few columns with their meaning, and all of them below, folded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.reports.words.numbers import error_of, merged, number, squared

MOST_COLUMNS = 8
"""Columns that are shown; all others are folded under "All columns"."""

COLUMNS = {
    "split": ("split", "evaluated data; test data were not used in training"),
    "log_joint": ("log joint", "log p(x, z) at the point of q; not a bound on log p(x) [nats]"),
    "elbo": ("ELBO", "the evidence lower bound, E_q[log p(x, z) - log q(z | x)] [nats]"),
    "elbo_bits_per_dimension": ("bits/dim", "the ELBO in bits per dimension; smaller is better"),
    "iw_bound": (
        "IW bound",
        "the importance-weighted bound on log p(x) from K draws of q [nats]",
    ),
    "iw_particles": ("draws K", "importance samples per image"),
    "log_evidence": ("log p(x)", "the exact log evidence [nats]"),
    "rate": ("rate", "E_q[log q(z | x) - log p(z)], information in the latents [nats]"),
    "distortion": ("distortion", "-E_q[log p(x | z)], the expected reconstruction loss [nats]"),
    "squared_error": ("squared error", "sum over pixels of (x - E[x | z])², z the mean of q"),
    "active_units": ("active units", "latents whose posterior mean has a variance above 0.01"),
    "aggregate_kl": ("KL(q(z), p(z))", "KL of the aggregate posterior from the prior [nats]"),
}
"""Name of a figure in ``metrics.json``, its column in a run's own table, and what that holds."""


@dataclass(frozen=True)
class Table:
    """A table of a report, of at most ``MOST_COLUMNS`` columns.

    ``meaning`` explains columns by their headings, ``words`` is a sentence above the table,
    and ``everything`` are the same rows with all of their columns.
    """

    rows: Sequence[Mapping[str, Any]]
    meaning: Mapping[str, str] = field(default_factory=dict)
    words: str = ""
    everything: Sequence[Mapping[str, Any]] = ()


def table_of(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A table of any rows: errors beside their values, surplus columns folded."""
    few = merged(rows)
    if not few or len(few[0]) <= MOST_COLUMNS:
        return Table(few)
    names = list(few[0])[:MOST_COLUMNS]
    return Table([{name: row[name] for name in names} for row in few], everything=rows)


def figures_table(splits: Sequence[Mapping[str, Any]], unit: str, over: str = "") -> Table:
    """The final figures of a run, ``Metrics.measured``, a row per split.

    ``over`` says what the errors average over; by default the units, and shared draws if any.
    """
    shared = any("iw_bound_draws_se" in row for row in splits)
    over = over or f"{unit}s" + (" and the draws that they share" if shared else "")
    few = merged(
        [
            {**row, **{f"{name}_se": error_of(row, name) for name in row if f"{name}_se" in row}}
            for row in splits
        ]
    )
    names = [name for name in COLUMNS if few and name in few[0]][:MOST_COLUMNS]
    return Table(
        [{COLUMNS[name][0]: _text(name, row[name]) for name in names} for row in few],
        dict(COLUMNS[name] for name in names),
        f"Averages per {unit}, bounds in nats; ± is the standard error over {over}.",
        [dict(row) for row in splits],
    )


def _text(name: str, value: Any) -> Any:
    """A figure without an error of its own; that of a rate is like that of the ELBO beside it."""
    if not isinstance(value, float):
        return value
    if name in ("rate", "distortion"):
        return f"{value:.2f}"
    return (squared if name == "squared_error" else number)(value)
