"""Maps from unconstrained numbers to the parameters of a Gaussian."""

import torch
from torch import Tensor


def number_of_parameters(dim: int, full: bool) -> int:
    """How many numbers describe a Gaussian over ``dim`` latents."""
    return dim + dim * (dim + 1) // 2 if full else 2 * dim


def initial_row(dim: int, numbers: int) -> Tensor:
    """Location 0 and scale e^-2: a narrow start, because a wide q has noisy gradients."""
    row = torch.zeros(numbers)
    row[dim : 2 * dim] = -2.0
    return row


def loc_scale(parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Split ``[..., 2M]`` into a location and a positive scale, ``[..., M]`` each."""
    loc, log_scale = parameters.chunk(2, -1)
    return loc, log_scale.exp()


def loc_scale_of_encoder(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Split an encoder's ``[..., 2M]`` into a location and a scale; the second half is log s^2.

    As in the lab. A VAE learns better from log s^2 than from log s, whose steps are twice as
    large.
    """
    loc, log_square = outputs.chunk(2, -1)
    return loc, (0.5 * log_square).exp()


def loc_scale_tril(parameters: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Split ``[..., M + M (M + 1) / 2]`` into a location and a Cholesky factor ``[..., M, M]``.

    L = diag(s) (I + C / sqrt(M)): the M numbers after the location are log s, and the last
    M (M - 1) / 2 are C, strictly below the diagonal. C depends neither on units nor on M,
    so the same step size works at every scale and in every dimension.
    """
    loc, log_diagonal, below = parameters.split([dim, dim, dim * (dim - 1) // 2], -1)
    row, column = torch.tril_indices(dim, dim, -1, device=parameters.device)
    unit = torch.eye(dim, dtype=parameters.dtype, device=parameters.device)
    unit = unit.expand(*parameters.shape[:-1], dim, dim).clone()
    unit[..., row, column] = below / dim**0.5
    return loc, log_diagonal.exp().unsqueeze(-1) * unit
