"""Unconstrained numbers to the parameters of a Gaussian."""

import torch
from torch import Tensor

__all__ = [
    "initial_row",
    "loc_scale",
    "loc_scale_of_encoder",
    "loc_scale_tril",
    "number_of_parameters",
]


def number_of_parameters(dim: int, full: bool) -> int:
    """How many numbers describe a Gaussian over ``dim`` latents."""
    return dim + dim * (dim + 1) // 2 if full else 2 * dim


def initial_row(dim: int, numbers: int) -> Tensor:
    """Location 0, scale e^-2: rows start narrow, since gradients are as noisy as q is wide."""
    row = torch.zeros(numbers)
    row[dim : 2 * dim] = -2.0
    return row


def loc_scale(parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Split ``[..., 2K]`` into a location and a positive scale, ``[..., K]`` each."""
    loc, log_scale = parameters.chunk(2, -1)
    return loc, log_scale.exp()


def loc_scale_of_encoder(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Split an encoder's ``[..., 2K]`` into a location and a scale; the second half is log s^2.

    As in the lab. A VAE learns better than from log s, whose steps are twice as large: the lab's
    ended 9 nats higher on MNIST (one seed).
    """
    loc, log_square = outputs.chunk(2, -1)
    return loc, (0.5 * log_square).exp()


def loc_scale_tril(parameters: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Split ``[..., K + K (K + 1) / 2]`` into a location and a Cholesky factor ``[..., K, K]``.

    L = diag(s) (I + C / sqrt(K)): the K numbers after the location are log s, the last
    K (K - 1) / 2 are C, strictly below the diagonal. C is free of units and of K, so that one
    step size suits it at every scale and in every dimension.
    """
    loc, log_diagonal, below = parameters.split([dim, dim, dim * (dim - 1) // 2], -1)
    row, column = torch.tril_indices(dim, dim, -1, device=parameters.device)
    unit = torch.eye(dim, dtype=parameters.dtype, device=parameters.device)
    unit = unit.expand(*parameters.shape[:-1], dim, dim).clone()
    unit[..., row, column] = below / dim**0.5
    return loc, log_diagonal.exp().unsqueeze(-1) * unit
