"""Findings of a run, as sentences generated from its figures."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.reports.words.numbers import error_of, number, positive, squared
from experiments.reports.words.titles import unit

FEW_DRAWS = 0.05
"""Share of effective draws below which the importance-weighted bound is not reliable."""

BY_MEASURE = {
    "density": "It is a log-density, so it may be positive and can only be compared with figures "
    "for the same kind of pixels.",
    "probability": "It is the log-probability of discrete pixels, so it is negative.",
}


def findings(metrics: Mapping[str, Any]) -> list[str]:
    """The paragraph on a trained or evaluated pair, from the content of ``metrics.json``."""
    return [" ".join([*_on_evidence(metrics), *_on_images(metrics)])]


def _on_evidence(metrics: Mapping[str, Any]) -> Iterator[str]:
    """What is known of log p(x)."""
    protocol = metrics["protocol"]
    split, estimator, one = protocol["split"], protocol["estimator"], unit(protocol)
    figures = metrics[split]
    yield _bound(figures, protocol, one)
    if protocol.get("measure") in BY_MEASURE:
        yield BY_MEASURE[protocol["measure"]]
    elbo, evidence, iw_bound = map(figures.get, ("elbo", "log_evidence", "iw_bound"))
    stated, name = (iw_bound, "bound") if estimator == "shared_draws" else (elbo, "ELBO")
    if estimator != "exact" and None not in (stated, evidence) and abs(evidence - stated) >= 5e-4:
        yield f"log p(x) is {number(evidence)} nats exactly" + (
            f"; the estimate of the {name} is above it because it uses few draws."
            if stated > evidence
            else f", so the guide loses {positive(evidence - stated, 2)} nats."
        )
    best, reached = metrics.get("optimum"), (metrics.get("train") or {}).get("log_evidence")
    if best and reached is not None:
        yield (
            f"The maximum of the likelihood, known in closed form, has log p(x) = "
            f"{best[split]:.2f} ({split}); on training data the model is "
            f"{best['train'] - reached:z.2f} nats below it."
        )
    if estimator == "monte_carlo" and None not in (elbo, iw_bound):
        yield (
            f"With {figures['iw_particles']} draws per {one} the importance-weighted bound "
            f"reaches {number(iw_bound, figures['iw_bound_se'])} nats."
        )


def _on_images(metrics: Mapping[str, Any]) -> Iterator[str]:
    """What the latents carry, how well they reconstruct, and whether the pair overfits."""
    split, one = metrics["protocol"]["split"], unit(metrics["protocol"])
    figures = metrics[split]
    rate, error = figures.get("rate"), figures.get("squared_error")
    if rate is not None and figures.get("log_joint") is None:
        carried = positive(rate, 1) if rate > 0 else "no measurable"
        yield f"The latents carry {carried} nats about each {one} (the rate)."
    if error is not None:
        value = squared(error, figures.get("squared_error_se"))
        yield f"Reconstructions have a squared error of {value}, summed over pixels."
    train, test = metrics.get("train") or {}, metrics.get("test") or {}
    if split == "test" and None not in (train.get("elbo"), test.get("elbo")):
        above = train["elbo"] - test["elbo"]
        if above > 3 * math.hypot(train.get("elbo_se") or 0.0, test.get("elbo_se") or 0.0):
            yield f"On training {one}s the ELBO is {above:.2f} nats higher: the pair overfits."


def _bound(figures: Mapping[str, Any], protocol: Mapping[str, Any], one: str) -> str:
    split = protocol["split"]
    if figures.get("log_joint") is not None:
        value = number(figures["log_joint"], figures["log_joint_se"])
        return (
            f"At the point that the guide found, log p(x, z) is {value} nats per {split} {one}. "
            "This is not a bound on log p(x)."
        )
    if protocol["estimator"] == "exact":
        known = figures.get("log_evidence")  # a model may know its posterior and not p(x)
        value = number(figures["elbo"] if known is None else known)
        return (
            f"log p(x) is {value} nats per {split} {one}. "
            "It is exact: with the exact posterior as guide, the ELBO equals log p(x)."
        )
    if protocol["estimator"] == "shared_draws" and figures.get("iw_bound") is not None:
        value = number(figures["iw_bound"], error_of(figures, "iw_bound"))
        return (
            f"The importance-weighted bound on log p(x) is {value} nats per {split} {one}, from "
            f"{figures['iw_particles']} draws of the prior that all {one}s share."
        )
    value = number(figures["elbo"], error_of(figures, "elbo"))
    return (
        f"The ELBO is {value} nats per {split} {one}: on average, log p(x) is at least this large."
    )


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
