"""Random arguments for answers: sizes that differ from each other and from the notebooks'."""

import torch
from torch import Tensor, nn


def latents() -> int:
    """M, a number of latent dimensions."""
    return 3 + int(torch.randint(2, ()))


def images() -> int:
    """B, a number of images."""
    return 10 + int(torch.randint(3, ()))


def pixels() -> int:
    """D, a number of pixels."""
    return 14 + int(torch.randint(4, ()))


def log_variance() -> Tensor:
    """log sigma^2, a number of either sign, and never near 0 or 1."""
    sign = 1 - 2 * int(torch.randint(2, ()))
    return sign * (0.3 + 0.4 * torch.rand(()))


def network(inputs: int, outputs: int) -> nn.Module:
    """A small decoder with random weights."""
    layers = nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, outputs)
    return nn.Sequential(*layers).requires_grad_(False)
