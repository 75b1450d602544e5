"""The gaps of an amortised guide, due to its family and to its encoder.

log p(x) - ELBO splits at the best ELBO that the guide's family reaches on each x:

    log p(x) - L[q*]     the approximation gap, due to the family
    L[q*] - L[q]         the amortisation gap, due to the encoder

For q*, everything that q computes from x is optimised per datum; all other weights are those of q.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pyro
import torch
from scipy.stats import bootstrap
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from experiments.data import Data
from experiments.evaluation.khat import batch_weights, refuse_infinite
from experiments.evaluation.shared_draws import images_in_cache
from experiments.inference.checks.index_reads import reads_index
from experiments.inference.checks.pair_check import check_rows
from experiments.inference.checks.rows import refuse_points
from experiments.inference.frozen import evaluated, frozen
from experiments.inference.objectives import ELBO, STL, AnalyticKL, Miselbo, Objective
from experiments.inference.optim.light import Adam
from guides import Guide
from guides.guide import EffectGuide
from guides.mixture import Mixture
from ppl_models.batch import Batch
from ppl_models.sites import describe

WINDOW = 50
"""Number of steps over which the loss is averaged."""

TOLERANCE = 0.002
"""Minimum gain of a window over the best one before [nats per datum]."""

RATES = 2
"""How many times the learning rate is divided by three when a window gains too little."""

AVERAGED = 1000
"""Number of steps at the last rate whose iterates are averaged, to reduce noise."""


class Local(NamedTuple):
    """The best ELBO of the family on every datum, ``[N]`` [nats], and the number of steps."""

    elbo: Tensor
    steps: int


def stopping_rule(most: int) -> str:
    """The stopping rule in words, for the protocol."""
    return (
        f"Adam per datum until a window of {WINDOW} steps gains less than {TOLERANCE} nats, at "
        f"{RATES + 1} rates, each a third of the one before, at most {most} steps; "
        f"then the mean of {min(AVERAGED, most)} more"
    )


def objective_for(guide: Guide) -> Objective:
    """The estimator of the guide's ELBO with the least noise."""
    if isinstance(guide, Mixture):
        return Miselbo(2)
    if isinstance(guide, EffectGuide) or len(describe(guide.model).latents) > 1:
        return ELBO() if hasattr(guide, "flows") else AnalyticKL()
    return ELBO(8) if type(guide).__name__ == "Flow" else STL(8)


@evaluated
def local_elbo(
    model: nn.Module,
    guide: Guide,
    data: Data,
    draws: int = 100,
    lr: float = 0.02,
    most: int = 2000,
) -> Local:
    """Fit q's features to each datum, starting from the encoder's output.

    Args:
        model: p, not changed.
        guide: q with an encoder, not changed.
        data: fixed pixels.
        draws: draws per datum for measuring the ELBO afterwards.
        lr: initial learning rate.
        most: maximum number of steps before averaging.

    Raises:
        NotImplementedError: If the guide has no encoder.
        UsageError: If a weight is zero, NaN or infinite; names the datum.
        ValueError: If the guide gives points, or the model reads ``batch.index``.
    """
    if not isinstance(guide, Guide):
        raise NotImplementedError(
            f"{type(guide).__name__} is no guides.Guide with features(batch), whose values could "
            "be fitted to every datum."
        )
    refuse_points(guide, "an importance weight")
    check_rows(model, guide, data)
    if reads_index(model):
        raise ValueError(
            f"{type(model).__name__} reads batch.index, but gaps are found in chunks that count "
            "their rows from 0: it would look up other rows."
        )
    at_once = images_in_cache(model, data)
    chunks, steps = [], 0
    with frozen(model), frozen(guide), pyro.validation_enabled(False):
        for batch in data.batches(max(1, at_once // 4)):
            assert batch.x is not None
            rows = Batch.of(batch.x, batch.given)
            features, taken = _fitted(model, guide, rows, lr, most)
            steps = max(steps, taken)
            with guide.given(features):
                chunks.append(batch_weights(model, guide, rows, draws, at_once).mT)
    log_w = torch.cat(chunks)
    refuse_infinite(log_w)
    return Local(log_w.mean(1), steps)


@torch.enable_grad()
def _fitted(
    model: nn.Module, guide: Guide, rows: Batch, lr: float, most: int
) -> tuple[list[Tensor], int]:
    """The fitted features of a chunk, and the number of steps."""
    leaves = [feature.detach().clone().requires_grad_() for feature in guide.features(rows)]
    optimizer = Adam(leaves, lr=lr)
    rates = ReduceLROnPlateau(
        optimizer, factor=1 / 3, patience=0, threshold=TOLERANCE, threshold_mode="abs"
    )
    objective = objective_for(guide)

    def several(number: int) -> tuple[float, list[Tensor]]:
        """Some steps: the mean loss per datum, and the mean of the leaves."""
        total, mean = torch.zeros(()), [torch.zeros_like(leaf) for leaf in leaves]
        for _ in range(number):
            optimizer.zero_grad(set_to_none=True)
            with guide.given(leaves):
                loss = objective.differentiable_loss(model, guide, rows)
            loss.backward()
            optimizer.step()
            total = total + loss.detach().cpu() / (rows.size * number)
            mean = [m + leaf.detach() / number for m, leaf in zip(mean, leaves, strict=True)]
        return total.item(), mean

    steps, floor = 0, lr / 3**RATES * 0.99
    while steps < most and optimizer.param_groups[0]["lr"] > floor:
        rates.step(several(WINDOW)[0])
        steps += WINDOW
    if not steps:
        return [leaf.detach() for leaf in leaves], 0
    optimizer.param_groups[0]["lr"] = lr / 3**RATES
    return several(min(AVERAGED, most))[1], steps + min(AVERAGED, most)


def best_evidence(values: Mapping[str, Tensor]) -> tuple[str, Tensor]:
    """The estimate of log p(x) that is highest on average, used for all images.

    Args:
        values: estimates by name, ``[N]`` each [nats]; one that starts with log_evidence is exact.
    """
    exact = [name for name in values if name.startswith("log_evidence")]
    best = (exact or [max(values, key=lambda name: values[name].double().mean().item())])[0]
    return best.replace("log_evidence", "exact"), values[best]


def interval(values: Tensor, seed: int = 0) -> tuple[float, float]:
    """A 95% bootstrap interval of the mean over images."""
    sample, rng = values.double().cpu().numpy(), np.random.default_rng(seed)
    found = bootstrap(
        (sample,), np.mean, method="percentile", n_resamples=5000, rng=rng
    ).confidence_interval
    return float(found.low), float(found.high)


def gap_rows(
    values: dict[str, Tensor], evidence: Tensor, seed: int, divided: bool
) -> list[dict[str, Any]]:
    """The gaps with bootstrap intervals over images.

    Args:
        values: bounds of every image, ``[N]`` each [nats].
        evidence: an estimate of log p(x), ``[N]`` [nats].
        seed: seed of the bootstrap.
        divided: whether the best ELBO of the family is known; else only the total is given.
    """
    elbo = values["elbo"]
    local = values.get("local_elbo", elbo)
    parts = {"approximation": evidence - local, "amortisation": local - elbo} if divided else {}
    parts["total"] = evidence - elbo
    rows = []
    for name, part in parts.items():
        low, high = interval(part, seed)
        rows.append({"gap": name, "nats": part.double().mean().item(), "from": low, "to": high})
    return rows
