"""Is this guide any good, datum by datum? The tail index of its importance weights."""

import pyro
import torch
from torch import Tensor, nn

from experiments.data import Data
from experiments.errors import UsageError
from experiments.evaluation.arviz_adapter import pareto_k
from experiments.evaluation.bounds import CACHED_NUMBERS, runs_of
from experiments.evaluation.shared_draws import numbers_per_image
from experiments.inference.traces import log_weights

__all__ = ["LEAST_DRAWS", "UNRELIABLE", "khat", "weights_of_draws"]

UNRELIABLE = 0.7
"""Above it the mean of the weights is not to be believed, however many are drawn."""

LEAST_DRAWS = 25
"""The tail that is fitted has a fifth of them, and wants five."""


@torch.no_grad()
def weights_of_draws(
    model: nn.Module, guide: nn.Module, data: Data, draws: int, rows: int | None = None
) -> Tensor:
    """log p(x, z) - log q(z | x) of draws of q, ``[N, draws]`` [nats].

    Args:
        model: p, in evaluation mode.
        guide: q, for these data.
        data: fixed pixels.
        draws: per image.
        rows: images at a time; by default what the processor's cache holds.

    Raises:
        UsageError: If a weight is not finite; names the datum.
    """
    at_once = max(1, CACHED_NUMBERS // numbers_per_image(model, data))
    rows = rows or max(1, min(len(data), at_once // min(draws, 50)))
    chunks = []
    with pyro.validation_enabled(False):
        for batch in data.batches(rows):
            at_a_time = max(1, at_once // len(batch.index))
            parts = [
                log_weights(p, q, batch).reshape(count, -1)
                for count, p, q in runs_of(model, guide, batch, draws, at_a_time)
            ]
            chunks.append(torch.cat(parts).mT)
    found = torch.cat(chunks)
    if not found.isfinite().all():
        row = int((~found.isfinite()).any(1).nonzero()[0])
        raise UsageError(f"datum {row} has an importance weight that is not finite.")
    return found


def khat(log_w: Tensor) -> Tensor:
    """The tail index of every datum's weights, ``[N]``; 0 where all are equal to rounding.

    Args:
        log_w: ``[N, draws]`` [nats].

    Raises:
        UsageError: If there are too few draws for a tail.
    """
    if log_w.shape[1] < LEAST_DRAWS:
        raise UsageError(
            f"{log_w.shape[1]} draws are too few for a tail index: at least {LEAST_DRAWS}."
        )
    found = torch.from_numpy(pareto_k(log_w.double().cpu().numpy())).to(log_w.device)
    low, high = log_w.aminmax(dim=1)
    rounding = 100 * torch.finfo(log_w.dtype).eps * torch.maximum(low.abs(), high.abs())
    return torch.where(high - low <= rounding, torch.zeros_like(found), found)
