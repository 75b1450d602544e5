"""Findings of a comparison of guides, as sentences generated from its figures."""

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from experiments.reports.words.numbers import error_of, number, squared
from experiments.reports.words.titles import joined

NOTHING = 0.005
"""A guide that loses less than this counts as losing nothing [nats]."""


def over_seeds(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per guide and decoder: means of the figures over the seeds."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["decoder"], row["guide"]), []).append(row)
    return [
        {name: _mean([row[name] for row in same]) for name in same[0]} for same in groups.values()
    ]


def _mean(values: list[Any]) -> Any:
    numeric = all(isinstance(value, float) for value in values)
    return mean(values) if numeric else values[0]


def lost(row: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """log p(x) - bound: in closed form where it is known, else as sampled, with its error."""
    if row["exact_gap"] is None:
        return row["gap"], row["gap_se"]
    return row["exact_gap"], None


def findings_of_guides(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A paragraph per decoder, from ``Row.figures`` of all guides and seeds."""
    means = over_seeds(rows)
    frozen = [row for row in means if row["decoder"] == "frozen"]
    learned = [row for row in means if row["decoder"] == "learned"]
    found = []
    if frozen:
        found.append(f"With p frozen, {_losses(frozen, rows)}")
    if learned and learned[0]["evidence"] is not None:
        found.append(_with_model(learned, frozen))
    elif learned:
        found.append(f"With p learned with each guide, {_order(learned, rows)}")
    return found


def _losses(rows: Sequence[Mapping[str, Any]], by_seed: Sequence[Mapping[str, Any]]) -> str:
    """What every guide loses on the same p."""
    losses = [(row, *lost(row)) for row in rows]
    known = [(row, loss, error) for row, loss, error in losses if loss is not None]
    if not known:
        return _order(rows, by_seed)
    exact = [row["guide"] for row, loss, error in known if loss + (error or 0.0) < NOTHING]
    parts = [f"{joined(exact)} {'lose' if len(exact) > 1 else 'loses'} nothing."] if exact else []
    parts += [_loss(row, loss, error) for row, loss, error in known if row["guide"] not in exact]
    points = [row["guide"] for row in rows if row["bound"] == "log_joint"]
    if points:
        have = "have" if len(points) > 1 else "has"
        parts.append(f"{joined(points)} {have} a log joint, which is not a bound.")
    return " ".join(parts)


def _loss(row: Mapping[str, Any], loss: float, error: float | None) -> str:
    value = number(loss, error) if row["exact_gap"] is None else f"{loss:.2f}"
    if row["bound"].startswith("iw_bound"):
        draws = row["bound"].partition(" ")[2].strip("()")
        return f"{row['guide']} ignores x: with {draws} draws it loses {value} nats."
    text = f"{row['guide']} loses {value} nats"
    floor = row["oracle_gap"] if row["family"] == "diagonal" else None
    if floor is None:
        return f"{text}."
    rest = loss - floor
    if rest < max(0.02, 0.02 * floor):
        return f"{text}, about the least that a diagonal Gaussian can lose."
    return (
        f"{text}: {floor:z.2f} because q is diagonal, {rest:.2f} because its fit is not optimal."
    )


def _order(rows: Sequence[Mapping[str, Any]], by_seed: Sequence[Mapping[str, Any]]) -> str:
    """Guides without a known evidence: the best bound, and how far the others are below it."""
    bounds = [row for row in rows if row["bound"] == "elbo"]
    if not bounds:
        return ""
    best = max(bounds, key=lambda row: row["value"])
    others = [
        f"{row['guide']} is {number(*_below(best, row, by_seed))} nats lower"
        for row in sorted(bounds, key=lambda row: -row["value"])
        if row is not best and row["minus_best"] is not None
    ]
    text = f"the best ELBO is that of {best['guide']}, {number(best['value'], best['value_se'])}"
    return f"{text} nats" + (f"; {joined(others)}" if others else "") + "."


def _below(
    best: Mapping[str, Any], row: Mapping[str, Any], by_seed: Sequence[Mapping[str, Any]]
) -> tuple[float, float]:
    """Mean difference of two guides; its error is over seeds, or of one seed over images."""
    same = [other for other in by_seed if other["decoder"] == row["decoder"]]
    values = [
        [other["value"] for other in same if other["guide"] == one["guide"]] for one in (best, row)
    ]
    differences = [a - b for a, b in zip(*values, strict=True)]
    if len(differences) == 1:
        return -row["minus_best"], row["minus_best_se"]
    return mean(differences), stdev(differences) / len(differences) ** 0.5


def _with_model(learned: Sequence[Mapping[str, Any]], frozen: Sequence[Mapping[str, Any]]) -> str:
    """How the guides shape p: gaps that close, and the log p(x) that is reached."""
    before = {row["guide"]: lost(row)[0] for row in frozen}
    smaller: list[str] = []
    larger: list[str] = []
    for row in learned:
        then, now = before.get(row["guide"]), lost(row)[0]
        if row["family"] != "diagonal" or then is None or now is None:
            continue
        if abs(now - then) >= 2 * NOTHING:  # less may be printed as the same number
            parts, verb = (smaller, "falls") if now < then else (larger, "rises")
            parts.append(f"the gap of {row['guide']} {verb} from {then:z.2f} to {now:z.2f} nats")
    text = "When p is learned with the guide, the guide shapes p."
    if smaller:
        text += " A diagonal q rotates W until the posterior is nearly diagonal: "
        text += f"{joined(smaller)}."
    if larger:
        text += f" Training has not converged: {joined(larger)}."
    best = max(row["evidence"] for row in learned)
    costs = [(row["guide"], best - row["evidence"]) for row in learned]
    named = [f"{guide} {cost:.2f}" for guide, cost in costs if cost >= NOTHING]
    return text + (f" Nats of log p(x) below the best: {joined(named)}." if named else "")


def findings_of_runs(
    runs: Sequence[tuple[str, Mapping[str, Any], tuple[str, str]]], unit: str
) -> list[str]:
    """The best bound, if all runs have the same one, and the smallest squared error.

    A run is its name, its figures, and the name and heading of its bound.
    """
    parts = []
    bounded = [run for run in runs if run[1].get(run[2][0]) is not None]
    if len({column for _, _, column in bounded}) == 1:
        bound, heading = bounded[0][2]
        name, best, _ = max(bounded, key=lambda run: run[1][bound])
        value = number(best[bound], error_of(best, bound))
        parts.append(f"{name} has the highest {heading}: {value} nats per {unit}.")
    elif bounded:
        parts.append(
            "The runs have different estimators of log p(x), each in a column of its own: "
            "only figures within a column compare."
        )
    errors = [run for run in runs if run[1]["squared_error"] is not None]
    if errors:
        name, least, _ = min(errors, key=lambda run: run[1]["squared_error"])
        value = squared(least["squared_error"])
        parts.append(f"{name} has the smallest squared error: {value}.")
    return [" ".join(parts)] if parts else []
