"""Findings of a run, as sentences generated from its figures."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.reports.words.numbers import number
from experiments.reports.words.titles import unit

FEW_DRAWS = 0.05
"""Share of effective draws below which the importance-weighted bound is not reliable."""

BY_MEASURE = {
    "density": "It is a log-density, so it may be positive and can only be compared with figures "
    "for the same kind of pixels.",
    "probability": "It is the log-probability of discrete pixels, so it is negative.",
}


def findings(metrics: Mapping[str, Any]) -> list[str]:
    """The paragraph on a trained or evaluated pair.

    Args:
        metrics: what ``metrics.json`` holds.
    """
    protocol = metrics["protocol"]
    split = protocol["split"]
    figures, one = metrics[split], unit(protocol)
    words = [
        _bound(figures, protocol, one),
        BY_MEASURE.get(protocol.get("measure") or "", ""),
        _evidence(figures) if protocol["estimator"] != "exact" else "",
        _optimum(metrics, split),
        _importance(figures, protocol, one),
        _latents(figures, one),
        _generalisation(metrics, split, one),
    ]
    return [" ".join(filter(None, words))]


def _bound(figures: Mapping[str, Any], protocol: Mapping[str, Any], one: str) -> str:
    split = protocol["split"]
    if figures.get("log_joint") is not None:
        value = number(figures["log_joint"], figures["log_joint_se"])
        return (
            f"At the point that the guide found, log p(x, z) is {value} nats per {split} {one}. "
            "This is not a bound on log p(x)."
        )
    if protocol["estimator"] == "exact":
        return (
            f"log p(x) is {number(figures['log_evidence'])} nats per {split} {one}. "
            "It is exact: with the exact posterior as guide, the ELBO equals log p(x)."
        )
    if protocol["estimator"] == "shared_draws":
        draws = figures.get("iw_bound_draws_se")  # unknown below ten draws
        errors = None if draws is None else math.hypot(figures["iw_bound_se"], draws)
        return (
            f"The importance-weighted bound on log p(x) is {number(figures['iw_bound'], errors)} "
            f"nats per {split} {one}, from {figures['iw_particles']} draws of the prior that all "
            f"{one}s share."
        )
    return (
        f"The ELBO is {number(figures['elbo'], figures['elbo_se'])} nats per {split} {one}: "
        "on average, log p(x) is at least this large."
    )


def _evidence(figures: Mapping[str, Any]) -> str:
    """The distance to an exact log p(x), where it is known and the guide is not exact."""
    evidence, bound = figures.get("log_evidence"), figures.get("elbo")
    if evidence is None or bound is None or abs(evidence - bound) < 5e-4:
        return ""
    known = f"log p(x) is {number(evidence)} nats exactly"
    if bound > evidence:
        return f"{known}; the estimate of the ELBO is above it because it uses few draws."
    return f"{known}, so the guide loses {evidence - bound:.2f} nats."


def _optimum(metrics: Mapping[str, Any], split: str) -> str:
    """The distance to the closed-form maximum of the likelihood, on the training data."""
    best, reached = metrics.get("optimum"), (metrics.get("train") or {}).get("log_evidence")
    if not best or reached is None:
        return ""
    return (
        f"The maximum of the likelihood, known in closed form, has log p(x) = "
        f"{best[split]:.2f} ({split}); on training data the model is "
        f"{best['train'] - reached:.2f} nats below it."
    )


def _importance(figures: Mapping[str, Any], protocol: Mapping[str, Any], one: str) -> str:
    bound, elbo = figures.get("iw_bound"), figures.get("elbo")
    if bound is None or elbo is None or protocol["estimator"] != "monte_carlo":
        return ""
    return (
        f"With {figures['iw_particles']} draws per {one} the importance-weighted bound reaches "
        f"{number(bound, figures['iw_bound_se'])} nats."
    )


def _latents(figures: Mapping[str, Any], one: str) -> str:
    rate, error = figures.get("rate"), figures.get("squared_error")
    parts = []
    if rate is not None and figures.get("log_joint") is None:
        carried = f"{rate:.1f}" if rate > 0 else "no measurable"
        parts.append(f"The latents carry {carried} nats about each {one} (the rate).")
    if error is not None:
        value = number(error, figures.get("squared_error_se"))
        parts.append(f"Reconstructions have a squared error of {value}, summed over pixels.")
    return " ".join(parts)


def _generalisation(metrics: Mapping[str, Any], split: str, one: str) -> str:
    train, test = metrics.get("train") or {}, metrics.get("test") or {}
    a, b = train.get("elbo"), test.get("elbo")
    if split != "test" or a is None or b is None:
        return ""
    error = math.hypot(train.get("elbo_se") or 0.0, test.get("elbo_se") or 0.0)
    if a - b > 3 * error:
        return f"On training {one}s the ELBO is {a - b:.2f} nats higher: the pair overfits."
    return ""


def warnings_of_training(records: Sequence[Mapping[str, Any]], data_changed: str | None) -> list:
    """Warnings from the log of a run."""
    warnings = []
    skipped = sum(record["skipped"] for record in records)
    if skipped:
        warnings.append(
            f"{skipped} of {records[-1]['steps']} steps were skipped because the loss or a "
            "gradient was not finite; a lower --lr or a longer --warmup may help"
        )
    if data_changed:
        warnings.append(f"the data have changed since the run was made: {data_changed}")
    return warnings


def warnings_of_figures(metrics: Mapping[str, Any]) -> list[str]:
    """Warnings from the figures of a run."""
    protocol = metrics["protocol"]
    figures = metrics[protocol["split"]]
    worst, draws = figures.get("effective_sample_size_q05"), figures.get("iw_particles")
    if worst is None or worst >= FEW_DRAWS * draws:
        return []
    return [
        f"for 5% of the {unit(protocol)}s the effective sample size is below {worst:.1f} of "
        f"{draws} draws: their importance-weighted bound depends on very few draws and may be "
        "far too low. Use more --particles, or a richer guide; `gaps RUN` measures k-hat"
    ]
