"""Checks of encoders and decoders, by what they do to inputs (lab 3)."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from experiments.teaching.checking import Wrong, asked, recorded, said, seeded

__all__ = ["decoder", "encoder"]

ROWS = 500
"""So many, since a right network may by chance give a few rows the same sign."""


@recorded
def encoder(
    network: Callable[[Tensor], tuple[Tensor, Tensor]], data_dim: int, latent_dim: int
) -> None:
    """Check ``network(x)``: images ``[B, D]`` to loc and log sigma^2 of q, ``[B, M]`` each.

    Raises:
        Wrong: With a hint.
    """
    name = "encoder"
    x = _inputs(ROWS, data_dim)
    found = asked(name, network, x)
    if not (isinstance(found, tuple) and len(found) == 2):
        raise Wrong(f"check.{name}: return two tensors, the mean and the log variance (chunk?).")
    for part, words in zip(found, ("the mean", "the log variance"), strict=True):
        _shape(name, part, (ROWS, latent_dim), words)
        _range(name, part, words)
    loc, log_variance = found
    if torch.equal(loc, log_variance):
        raise Wrong(f"check.{name}: mean and log variance are the same numbers: two heads, or 2M.")
    _rows(name, lambda x: torch.cat(network(x), -1), x)
    _nonlinear(name, lambda x: torch.cat(network(x), -1), data_dim)
    _trainable(name, network, (loc.sum() + 2 * log_variance.sum()))
    said(name, f"{data_dim} pixels to {latent_dim} means and log variances per image")


@recorded
def decoder(network: Callable[[Tensor], Tensor], data_dim: int, latent_dim: int) -> None:
    """Check ``network(z)``: latents ``[..., M]`` to the means of the pixels, ``[..., D]``.

    Raises:
        Wrong: With a hint.
    """
    name = "decoder"
    z = _inputs(ROWS, latent_dim)
    found = asked(name, network, z)
    _shape(name, found, (ROWS, data_dim), "the result")
    several = asked(name, network, z[:7].expand(3, 7, latent_dim))
    _shape(name, several, (3, 7, data_dim), "the result for several draws per image")
    _range(name, found, "the result")
    if (found.detach().abs() <= 1).all():
        raise Wrong(
            f"check.{name}: however large z is, the result stays between -1 and 1: the lab's "
            "output layer is linear, without sigmoid or tanh."
        )
    _rows(name, network, z)
    _nonlinear(name, network, latent_dim)
    _trainable(name, network, found.sum())
    said(name, f"{latent_dim} latents to {data_dim} pixels")


def _inputs(rows: int, dim: int) -> Tensor:
    """Inputs of very different lengths, so that bounded outputs show."""
    with seeded():
        return torch.randn(rows, dim) * torch.logspace(0, 4, rows).unsqueeze(1)


def _shape(name: str, found: Tensor, wanted: Iterable[int], words: str) -> None:
    if not isinstance(found, Tensor) or found.shape != torch.Size(wanted):
        shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise Wrong(f"check.{name}: {words} has shape {shape}, expected was {list(wanted)}.")


def _range(name: str, found: Tensor, words: str) -> None:
    values = found.detach()
    if not values.isfinite().all():
        raise Wrong(
            f"check.{name}: {words} is NaN or infinite: return numbers as they leave the "
            "last layer, no exponential or logarithm of them."
        )
    if (values >= 0).all() or (values <= 0).all():
        raise Wrong(
            f"check.{name}: {words} never changes its sign: the last layer is linear, without "
            "ReLU, softplus, sigmoid or exponential."
        )


def _rows(name: str, network: Callable[[Tensor], Tensor], x: Tensor) -> None:
    x = x[:: len(x) // 7]
    whole, single = network(x).detach(), torch.cat([network(row[None]).detach() for row in x])
    if not torch.allclose(whole, single, rtol=1e-3, atol=1e-3 * float(whole.abs().max())):
        raise Wrong(
            f"check.{name}: what becomes of a row depends on the other rows of the batch: "
            "a softmax or a mean over the wrong axis, or a batch norm?"
        )
    if (whole - whole[0]).abs().max() < 1e-6 * whole.abs().max():
        raise Wrong(f"check.{name}: the result is the same for every input.")


@torch.no_grad()
def _nonlinear(name: str, network: Callable[[Tensor], Tensor], dim: int) -> None:
    with seeded(2):
        a, b = torch.randn(2, 64, dim)
    bend = network(a + b) - network(a) - network(b) + network(torch.zeros_like(a))
    if bend.abs().max() < 1e-4 * network(a).abs().max():
        raise Wrong(
            f"check.{name}: it is an affine map: two linear layers without a nonlinearity "
            "between them are one."
        )


def _trainable(name: str, network: Callable, total: Tensor) -> None:
    if not isinstance(network, nn.Module):
        return
    parameters = dict(network.named_parameters())
    if not parameters:
        raise Wrong(f"check.{name}: it has no parameters: assign its layers to self in __init__.")
    if not total.requires_grad:
        raise Wrong(f"check.{name}: no gradient flows: .detach(), .data or no_grad()?")
    found = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    idle = [key for key, value in zip(parameters, found, strict=True) if value is None]
    if idle:
        raise Wrong(f"check.{name}: no gradient reaches {', '.join(idle)}: are they used?")
