"""The tail index k-hat of a guide's importance weights, datum by datum."""

import math

import pyro
import torch
from torch import Tensor, nn

from experiments.data import Data
from experiments.errors import UsageError
from experiments.evaluation.bayesian.arviz_adapter import pareto_k
from experiments.evaluation.bounds import runs_of
from experiments.evaluation.shared_draws import images_in_cache
from experiments.inference.checks.pair_check import check_rows
from experiments.inference.checks.rows import refuse_points
from experiments.inference.frozen import evaluated
from experiments.inference.traces import log_weights
from ppl_models.batch import Batch

UNRELIABLE = 0.7
"""Above this k-hat, the mean of the weights is not reliable for any number of draws."""

LEAST_DRAWS = 25
"""Minimum number of draws: the fitted tail is a fifth of them and needs five."""


@torch.no_grad()
def batch_weights(
    model: nn.Module, guide: nn.Module, batch: Batch, draws: int, at_once: int
) -> Tensor:
    """log p(x, z) - log q(z | x) of draws of q, in runs of ``at_once`` rows, ``[draws, B]``."""
    runs = runs_of(model, guide, batch, draws, at_once)
    return torch.cat([log_weights(p, q, batch).reshape(count, -1) for count, p, q in runs])


@evaluated
@torch.no_grad()
def weights_of_draws(model: nn.Module, guide: nn.Module, data: Data, draws: int) -> Tensor:
    """log p(x, z) - log q(z | x) of draws of q for every image, ``[N, draws]`` [nats].

    The pixels are fixed.

    Raises:
        UsageError: If a weight is zero, NaN or infinite; names the datum.
        ValueError: If q gives points.
    """
    refuse_points(guide, "an importance weight")
    check_rows(model, guide, data)
    at_once = images_in_cache(model, data)
    batches = data.batches(max(1, at_once // min(draws, 50)))
    with pyro.validation_enabled(False):
        found = torch.cat([batch_weights(model, guide, b, draws, at_once).mT for b in batches])
    refuse_infinite(found)
    return found


def refuse_infinite(log_w: Tensor) -> None:
    """Refuse weights ``[N, draws]`` of which one is zero, NaN or infinite, naming the datum."""
    if not log_w.isfinite().all():
        row = int((~log_w.isfinite()).any(1).nonzero()[0])
        _refuse_undefined(log_w[: row + 1])
        share = (log_w[row] == -math.inf).double().mean().item()
        raise UsageError(
            f"datum {row} has an importance weight that is not finite in nats: {share:.1%} of its "
            "weights are zero, where the guide proposes latents that the model rules out."
        )


def _refuse_undefined(log_w: Tensor) -> None:
    """Refuse a weight that is NaN or infinite."""
    undefined = (log_w.isnan() | (log_w == math.inf)).any(1)
    if undefined.any():
        row = int(undefined.nonzero()[0])
        raise UsageError(f"datum {row} has an importance weight that is not finite.")


def khat(log_w: Tensor) -> Tensor:
    """The tail index of every datum's weights, ``[N]``; 0 where all are equal to rounding.

    Weights of zero count as draws below the tail. If the largest weights are equal to rounding but
    the others are not, there is nothing to fit, and k-hat is infinite.

    Args:
        log_w: ``[N, draws]`` [nats]; minus infinity for a weight of zero.

    Raises:
        UsageError: If there are too few draws for a tail, a weight is NaN or infinite, or the tail
            would contain weights of zero.

    References:
        Vehtari, Simpson, Gelman, Yao & Gabry (2024), PSIS, also for the length of the tail.
    """
    draws = log_w.shape[1]
    if draws < LEAST_DRAWS:
        raise UsageError(f"{draws} draws are too few for a tail index: at least {LEAST_DRAWS}.")
    _refuse_undefined(log_w)
    largest = log_w.topk(math.ceil(min(draws / 5, 3 * draws**0.5)) + 1).values
    if not largest.isfinite().all():
        row = int((~largest.isfinite()).any(1).nonzero()[0])
        share = (log_w[row] == -math.inf).double().mean().item()
        raise UsageError(
            f"{share:.1%} of the importance weights of datum {row} are zero: too few are left "
            "for a tail index."
        )
    high, cutoff, low = largest[:, 0], largest[:, -1], log_w.amin(1)
    unit = torch.finfo(log_w.dtype).eps * torch.maximum(high.abs(), cutoff.abs())
    found = torch.full_like(high, math.inf, dtype=torch.float64)
    equal = high - low <= 100 * unit
    found[equal] = 0
    # a shorter tail is rounding: of log_w, or of its exponentials in float64
    spread = (high - cutoff > 4 * unit.clamp(min=torch.finfo(torch.float64).eps)) & ~equal
    if spread.any():
        fitted = pareto_k(log_w[spread].double().cpu().numpy())
        found[spread] = torch.from_numpy(fitted).to(found)
    return found


def share_unreliable(khats: Tensor) -> float:
    """Share of images with unreliable importance weights, from k-hats ``[N]``."""
    return (khats > UNRELIABLE).double().mean().item()
