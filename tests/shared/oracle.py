"""PPCA of simulated data, whose evidence, posterior and gaps are known."""

from collections.abc import Sequence

import torch

from experiments.evaluation.oracle import rotate_to_largest_gap
from ppl_models import PPCA, Batch


def oracle(
    scales: Sequence[float], rows: int = 60, data_dim: int = 8
) -> tuple[PPCA, torch.Tensor]:
    """The best PPCA of draws from another one, in its worst basis and frozen, and the draws.

    Args:
        scales: factors on the columns of W that the draws are from.
        rows: number of draws.
        data_dim: D.
    """
    truth = PPCA(data_dim, len(scales))
    with torch.no_grad():
        truth.W.mul_(torch.tensor(scales))
        x = truth(Batch.draw(rows))
    model = rotate_to_largest_gap(PPCA.maximum_likelihood(x, len(scales)))
    return model.requires_grad_(False), x
