"""Unconstrained numbers to the parameters of a Gaussian."""

import torch
from torch import Tensor

__all__ = ["loc_scale", "loc_scale_tril", "number_of_parameters"]


def number_of_parameters(dim: int, full: bool) -> int:
    """How many numbers describe a Gaussian over ``dim`` latents."""
    return dim + dim * (dim + 1) // 2 if full else 2 * dim


def loc_scale(parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Split ``[..., 2K]`` into a location and a positive scale, ``[..., K]`` each."""
    loc, log_scale = parameters.chunk(2, -1)
    return loc, log_scale.exp()


def loc_scale_tril(parameters: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Split ``[..., K + K (K + 1) / 2]`` into a location and a Cholesky factor ``[..., K, K]``.

    The last K (K - 1) / 2 numbers lie below the diagonal; the K before them are its logarithm.
    """
    loc, log_diagonal, below = parameters.split([dim, dim, dim * (dim - 1) // 2], -1)
    row, column = torch.tril_indices(dim, dim, -1, device=parameters.device)
    lower = parameters.new_zeros(*parameters.shape[:-1], dim, dim)
    lower[..., row, column] = below
    return loc, lower + torch.diag_embed(log_diagonal.exp())
