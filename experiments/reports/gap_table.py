"""What several guides lose on one model, side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from experiments.evaluation.bounds import mean_and_error
from experiments.evaluation.gaps import best_evidence
from experiments.evaluation.khat import UNRELIABLE, share_unreliable
from experiments.reports.saved_comparison import check_same_images, read_runs, with_error
from experiments.reports.words.numbers import positive


class GapTable(NamedTuple):
    """One line per guide [nats per image], what log p(x) was, and the protocol they share.

    ``parts`` are the mean approximation and amortisation gap of every guide.
    """

    rows: list[dict[str, Any]]
    words: str
    protocol: dict[str, Any]
    parts: dict[str, list[float]]


def table_of_gaps(paths: Mapping[str, Path]) -> GapTable:
    """The gaps of every guide to one estimate of log p(x), the best on average of all of them.

    The last column is paired: by how much the first guide's family lacks more than this one's.
    Rows are named by the keys of ``paths``, whose values are directories of ``gaps`` on one model.

    Raises:
        UsageError: If the guides were not measured on the same images.
    """
    runs = read_runs(list(paths.values()), figures=False)
    check_same_images(runs, if_known=())
    values = {row: run.values for row, run in zip(paths, runs, strict=True)}
    estimates = {
        f"{name} of {row}": value
        for row, own in values.items()
        for name, value in own.items()
        if name in ("log_evidence", "iw_bound", "ais_bound")
    }
    best, evidence = best_evidence(estimates)
    first, protocol = next(iter(values.values())), runs[0].protocol
    rows = [{"guide": row, **_line(own, evidence, first)} for row, own in values.items()]
    parts = {
        "approximation gap": [mean_and_error(evidence - _reached(v))[0] for v in values.values()],
        "amortisation gap": [mean_and_error(_reached(v) - v["elbo"])[0] for v in values.values()],
    }
    words = (
        f"Nats per image; {protocol['n']} {protocol['split']} images, errors over images. "
        f"log p(x): {with_error(evidence)}, {best}."
    )
    if "ais" in protocol:
        words += f" AIS: {protocol['ais']}."
    return GapTable(rows, words, protocol, parts)


def gaps_in_words(
    rows: Sequence[Mapping[str, Any]], estimator: str, unreliable: float, one: str = "image"
) -> tuple[str, list[str]]:
    """What a guide loses in a sentence, and a warning where its weights are not reliable.

    ``estimator`` is that of log p(x), ``unreliable`` the share of the data with k-hat above 0.7,
    and ``one`` what a datum is called.
    """
    gap = {row["gap"]: row for row in rows}
    interval = "{nats:z.2f} nats (95% interval {from:z.2f} to {to:z.2f})"
    words = (
        f"The guide loses {interval.format(**gap['total'])} per {one} against log p(x) "
        f"({estimator})"
    )
    if "approximation" in gap:
        words += (
            f": {gap['approximation']['nats']:z.2f} because its family does not contain the "
            f"posterior, {gap['amortisation']['nats']:z.2f} because the encoder does not find the "
            "best member of the family"
        )
    words += "."
    part = gap.get("approximation", gap["total"])
    if part["to"] < 0 and part["nats"] <= -0.005:  # printed as below zero
        words += " A negative part means that the estimate of log p(x) is too low."
    percent = positive(100 * unreliable, 1) if unreliable else "0.0"
    share = f"k-hat is above {UNRELIABLE} for {percent}% of the {one}s"
    if unreliable == 0 or estimator == "exact":
        return f"{words} {share[0].upper()}{share[1:]}.", []
    warning = (
        f"{share}: their importance-weighted bounds are not reliable, however many draws are "
        "taken. Use a richer guide (--guide flow or full_rank; top_down for several latents), or "
        "annealed importance sampling (--ais-from guide)"
    )
    return words, [warning]


def _line(values: dict[str, Tensor], evidence: Tensor, first: dict[str, Tensor]) -> dict[str, Any]:
    elbo, reached = values["elbo"], _reached(values)
    paired = None if values is first else with_error(reached - _reached(first))
    bounds = {"ELBO": elbo, "IW bound": values["iw_bound"], "AIS": values.get("ais_bound")}
    means = {k: None if v is None else f"{v.mean():.3f}" for k, v in bounds.items()}
    return means | {
        "approximation gap": with_error(evidence - reached),
        "amortisation gap": with_error(reached - elbo) if "local_elbo" in values else None,
        "first's approximation gap minus this": paired,
        f"share of k-hat > {UNRELIABLE}": f"{share_unreliable(values['khat']):.3f}",
    }


def _reached(values: dict[str, Tensor]) -> Tensor:
    """The best ELBO of a guide's family on every image; its own where it has no encoder."""
    return values.get("local_elbo", values["elbo"])
