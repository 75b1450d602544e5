"""The bound on log p of a whole data set, for models with global latents."""

import math

import pyro
import torch
from torch import nn

from experiments.data import Data
from experiments.evaluation.bounds import rows_at_a_time
from experiments.inference.objectives import ELBO

DRAWS = 100
"""Number of draws from q for the bound."""


@torch.no_grad()
def whole_bound(
    model: nn.Module, guide: nn.Module, data: Data, draws: int = DRAWS, memory: float = 1.0
) -> tuple[float, float]:
    """The ELBO of all rows together, and its Monte-Carlo standard error [nats per data point].

    If the rows do not fit into ``memory``, a draw is the mean over batches, each with separate
    latents and rescaled to all rows; this mean is unbiased too.

    Args:
        model: p, in evaluation mode.
        guide: q, fitted to these data.
        data: fixed pixels.
        draws: number of draws from q, at least two.
        memory: GiB for intermediate values.
    """
    rows = rows_at_a_time(model, data, memory, len(data))
    found = torch.zeros(draws, dtype=torch.float64)
    with pyro.validation_enabled(False):
        for draw in range(draws):
            for batch in data.batches(rows):
                share = len(batch.index) / batch.size
                found[draw] -= share * ELBO().loss(model, guide, batch) / batch.size
    return found.mean().item(), found.std().item() / math.sqrt(draws)
