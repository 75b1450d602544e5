"""What is known exactly about PPCA: the truth that estimators are tried on."""

import torch
from torch import Tensor

from ppl_models.ppca import PPCA, equal_diagonal_rotation

__all__ = ["diagonal_gap", "rotate_to_largest_gap"]


def diagonal_gap(model: PPCA) -> Tensor:
    """Gap of the best diagonal-Gaussian guide [nats per data point], the same for every datum.

    1/2 (sum_k log Lambda_kk - log det Lambda), Lambda the precision of the posterior; zero when
    the columns of W are orthogonal.
    """
    with torch.no_grad():
        precision = model.posterior_precision()
        return 0.5 * (precision.diagonal().log().sum() - torch.logdet(precision))


def rotate_to_largest_gap(model: PPCA) -> PPCA:
    """The same p(x) in the latent basis where all Lambda_kk are equal and the gap is largest."""
    with torch.no_grad():
        rotated = model.rotated(equal_diagonal_rotation(model.posterior_precision()))
    return rotated.requires_grad_(model.W.requires_grad)
