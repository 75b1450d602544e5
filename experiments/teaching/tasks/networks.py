"""Checks of encoders and decoders, by what they are and by what they do to inputs (lab 3)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from experiments.teaching.answers import asked, derivatives
from experiments.teaching.behaviour import (
    answers_alike,
    changes_sign,
    from_anywhere,
    grows,
    has_shape,
    is_bent,
    is_made_of_straight_pieces,
    is_not_leaky,
    is_trained,
    rows_are_apart,
)
from experiments.teaching.rubric import Wrong, said, same, with_name
from ppl_models.random_numbers import seeded

ROWS = 500
"""Several, since a right network may by chance give a few rows the same sign."""
LAYERS = {
    nn.modules.batchnorm._BatchNorm: "a batch norm, so that what becomes of an image depends on "
    "the others of its batch",
    nn.modules.dropout._DropoutNd: "dropout, so that every call gives something else",
    nn.LayerNorm: "a layer norm",
}
OTHERS = (nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Hardtanh, nn.ReLU6)


@with_name
@from_anywhere
def encoder(network: nn.Module, data_dim: int, latent_dim: int, hidden_dim: int = 400) -> None:
    """Check ``network(x)``: images ``[B, D]`` to loc and log sigma^2 of q, ``[B, M]`` each."""
    _is_network(network)
    of, x = partial(asked, "encoder", network), inputs(ROWS, data_dim)
    found = of(x)
    if not (isinstance(found, (tuple, list)) and len(found) == 2):
        raise Wrong(
            "return two tensors, the mean and the log variance (chunk?); what came back is a "
            f"{type(found).__name__}."
        )
    names = ("the mean", "the log variance")
    for part, words in zip(found, names, strict=True):
        has_shape(part, [ROWS, latent_dim], words)
        changes_sign(part, words)
        if not part.requires_grad:
            raise Wrong(f"no gradient flows to {words}: .detach(), .data, no_grad()?")
    loc, log_variance = found
    if torch.equal(loc, log_variance):
        raise Wrong("mean and log variance are the same numbers: two heads, or 2M.")
    _behaves(lambda x: torch.cat(tuple(of(x)), -1), x)
    grows(lambda x: of(x)[0], x, names[0])
    grows(lambda x: of(x)[1], x, names[1])
    is_made_of_straight_pieces(network, data_dim)
    is_trained(network, loc.sum() + 2 * log_variance.sum())
    hidden, heads = (data_dim + 1) * hidden_dim, 2 * (hidden_dim + 1) * latent_dim
    sizes = hidden + heads, 2 * hidden + heads  # one hidden layer, or one for each head
    _has_size(network, (data_dim, hidden_dim, 2 * latent_dim), sizes)
    said("encoder", f"{data_dim} pixels to {latent_dim} means and log variances per image")


@with_name
@from_anywhere
def decoder(network: nn.Module, data_dim: int, latent_dim: int, hidden_dim: int = 400) -> None:
    """Check ``network(z)``: latents ``[..., M]`` to the means of the pixels, ``[..., D]``."""
    _is_network(network)
    of, z = partial(asked, "decoder", network), inputs(ROWS, latent_dim)
    found = of(z)
    has_shape(found, [ROWS, data_dim], "the result")
    several = of(z[:21].reshape(3, 7, latent_dim))
    has_shape(several, [3, 7, data_dim], "the result for several draws per image")
    changes_sign(found, "the result")
    _behaves(of, z)
    if not same(several.flatten(0, 1), found[:21], 1e-3):
        raise Wrong("several draws per image, [K, B, M], give other images than one at a time.")
    grows(of, z, "the result")
    is_made_of_straight_pieces(network, latent_dim)
    is_trained(network, found.sum())
    few = z[:7].clone().requires_grad_()
    (gradient,) = derivatives(of(few).sum(), [few])
    if gradient is None:
        raise Wrong("no gradient flows from the result to z: .detach(), .data, no_grad()?")
    size = (latent_dim + 1) * hidden_dim + (hidden_dim + 1) * data_dim
    _has_size(network, (latent_dim, hidden_dim, data_dim), (size,))
    said("decoder", f"{latent_dim} latents to {data_dim} pixels")


def inputs(rows: int, dim: int) -> Tensor:
    """Inputs of very different lengths, so that bounded outputs show."""
    with seeded():
        return torch.randn(rows, dim) * torch.logspace(0, 4, rows).unsqueeze(1)


def _is_network(network: Any) -> None:
    """See that it is a module, with no layer in it that the lab has not."""
    if isinstance(network, type):
        raise Wrong(f"this is the class: give an instance, {network.__name__}(...).")
    if not isinstance(network, nn.Module):
        what = "nothing (None)" if network is None else f"a {type(network).__name__}"
        raise Wrong(
            f"the network is {what}: an nn.Module is expected, whose parameters can be trained. "
            "Is the `return` missing?"
        )
    for part in network.modules():
        for kind, words in LAYERS.items():
            if isinstance(part, kind):
                raise Wrong(f"there is {words}. The lab's network has none.")
        if isinstance(part, OTHERS):
            raise Wrong(f"the nonlinearity is {type(part).__name__}: the lab's is ReLU.")


def _behaves(network: Callable[[Tensor], Tensor], x: Tensor) -> None:
    answers_alike(network, x[:7])
    rows_are_apart(network, x)
    is_bent(network, x.shape[1])
    is_not_leaky(network, x[:7])


def _has_size(network: Any, widths: tuple[int, int, int], right: tuple[int, ...]) -> None:
    """See that there are as many parameters as one hidden layer of the lab's width has."""
    found = sum(p.numel() for p in network.parameters())
    if found in right:
        return
    inputs, hidden, outputs = widths
    units, rest = divmod(found - outputs, inputs + 1 + outputs)
    if rest == 0 and units > 0:
        words = f"as many as one hidden layer of {units} units has; the lab's has {hidden}."
    elif right[0] - found in (hidden, outputs, outputs // 2, hidden + outputs):
        words = "a layer has no bias: the lab's layers do."
    else:
        words = f"one hidden layer of {hidden} units, as in the lab, has {right[0]}: more layers?"
    raise Wrong(f"there are {found} parameters, {words}")
