"""Four guides fit the posterior of one digit, side by side in the latent plane."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from pyro import poutine
from torch import Tensor

from experiments.animations.frames import picture, training
from experiments.data import Data
from experiments.inference.fit import fit
from experiments.inference.objectives import STL, AnalyticKL
from experiments.inference.optim import adam
from experiments.inference.svi import SVI
from guides import GUIDES, Amortized
from ppl_models import VAE
from ppl_models.random_numbers import forked_rng

FITTED = {"prior": "C1", "mean_field": "C3", "full_rank": "C2", "amortized": "C4"}
"""The guides, from no inference to an encoder, and their colours."""
LETTERS = 20
"""Font size: a phone shows the picture of the README 390 pixels wide."""
SIDE, REACH, SHOWN = 141, 5.0, 2.5
"""Points per side of the grid on which densities are summed; its half width, and that shown."""
BATCH = 50
"""Rows per step of the decoder's training."""
CANDIDATES = 100
"""Test images among which the one with the most correlated posterior is shown."""
MASS = (0.95, 0.5)
"""Shares of the probability inside the contours."""


def posterior(config: Any, train: Data, test: Data) -> Iterator[Image.Image]:
    """The exact posterior of one digit under a VAE, and four guides that are fitted to it.

    The decoder is trained with a full-covariance encoder on binary pixels, then frozen.
    ``mean_field`` and ``full_rank`` are fitted to the digit; the encoder of ``amortized`` learns
    from the training images, of which the digit is none. KL(q || p(z | x)) is a sum on a grid.
    """
    model, train, digit, target = setting(config, train, test)
    seen = {name: fitted(config, model, name, train, digit) for name in FITTED}
    for frame in range(max(map(len, seen.values()))):
        now = {name: frames[min(frame, len(frames) - 1)] for name, frames in seen.items()}
        yield picture(_figure(now, target, digit))


def setting(config: Any, train: Data, test: Data) -> tuple[VAE, Data, Data, Tensor]:
    """The frozen model, the training images, the digit, and its log p(z | x) on the grid."""
    train, test = train.binarized("static", config.seed), test.binarized("static", config.seed + 1)
    model = trained_decoder(config, train)
    chosen = most_correlated(model, test.rows(min(CANDIDATES, len(test))))
    digit = test.select(slice(chosen, chosen + 1))
    return model, train, digit, log_posterior(model, digit.like(model).observations())[0]


def plane(like: Tensor) -> Tensor:
    """The points of the grid, ``[SIDE^2, 2]``."""
    side = torch.linspace(-REACH, REACH, SIDE, dtype=like.dtype, device=like.device)
    return torch.cartesian_prod(side, side)


def trained_decoder(config: Any, train: Data) -> VAE:
    """A VAE with two latents, frozen after training."""
    model = VAE(tuple(train.image_shape), 2, "bernoulli", hidden_dims=(200,))
    guide = Amortized(model, covariance="full")
    svi = SVI(model, guide, adam(model, guide, 0.003), AnalyticKL())
    for _ in fit(svi, train.like(model), config.epochs, BATCH, seed=config.seed):
        pass
    return model.requires_grad_(False).eval()


@torch.no_grad()
def log_posterior(model: VAE, x: Tensor) -> Tensor:
    """log p(z | x) on the grid by quadrature, ``[B, SIDE^2]``, for ``x`` ``[B, C, H, W]``."""
    z = plane(x)
    prior, likelihood = model.prior(), model.likelihood.distribution(model.decoder(z))
    joint = torch.stack([likelihood.log_prob(image) + prior.log_prob(z) for image in x])
    return normalised(joint.double())


def normalised(log_density: Tensor) -> Tensor:
    """A log-density on the grid ``[..., SIDE^2]``, shifted so that its sum over cells is one."""
    cell = (2 * REACH / (SIDE - 1)) ** 2
    return log_density - log_density.logsumexp(-1, keepdim=True) - math.log(cell)


def kl(log_q: Tensor, log_p: Tensor) -> float:
    """KL(q || p) of two log-densities on the grid [nats]."""
    return float((log_q.softmax(-1) * (normalised(log_q) - normalised(log_p))).sum())


def most_correlated(model: VAE, data: Data) -> int:
    """The row whose posterior has the most correlated latents: a diagonal q fits it worst."""
    x = data.like(model).observations()
    z, weights = plane(x).double(), log_posterior(model, x).softmax(-1)
    mean = weights @ z
    covariance = torch.einsum("bg,gk,gl->bkl", weights, z, z) - mean[:, :, None] * mean[:, None]
    scale = covariance.diagonal(dim1=1, dim2=2).sqrt()
    return int((covariance[:, 0, 1] / scale.prod(-1)).abs().argmax())


def fitted(config: Any, model: VAE, name: str, train: Data, digit: Data) -> list[Tensor]:
    """log q(z | x) of the digit on the grid, at every frame of a guide's training."""
    torch.manual_seed(config.seed)
    guide = GUIDES[name](model).for_data(1)
    one = digit.like(model)
    rows = train.like(model) if name == "amortized" else one
    loss = AnalyticKL() if name == "amortized" else STL(particles=4)
    svi = SVI(model, guide, adam(model, guide, 0.003), loss)
    frames = []
    for _ in training(svi, rows, config.steps, len(rows), config.frames, config.seed):
        with torch.no_grad(), forked_rng():
            q = poutine.trace(guide).get_trace(one.batch(torch.arange(1))).nodes["z"]["fn"]
            points = plane(one.observations())[:, None]
            frames.append(q.log_prob(points)[:, 0].double())
    return frames


def _figure(now: dict[str, Tensor], target: Tensor, digit: Data) -> Figure:
    figure = Figure(figsize=(12.4, 4.4), layout="constrained")
    figure.suptitle(
        "One VAE, one digit: the exact posterior p(z | x) in grey, the guide q(z | x) in colour",
        fontsize=LETTERS,
    )
    for axis, (name, log_q) in zip(figure.subplots(1, len(now)), now.items(), strict=True):
        _contours(axis, target, ["#d9d9d9", "#a6a6a6"], filled=True)
        _contours(axis, log_q, [FITTED[name]] * 2)
        axis.set_title(f"{name}\nloses {kl(log_q, target):.2f} nats", fontsize=LETTERS)
        axis.set(xlim=(-SHOWN, SHOWN), ylim=(-SHOWN, SHOWN), aspect="equal")
        axis.set(xticks=(-2, 0, 2), yticks=(-2, 0, 2))
        axis.tick_params(labelsize=0.8 * LETTERS)
        axis.set_xlabel("z₁", fontsize=LETTERS)
    figure.axes[0].set_ylabel("z₂", fontsize=LETTERS)
    image = figure.axes[0].inset_axes((0.03, 0.71, 0.26, 0.26))
    image.imshow(digit.observations()[0, 0].numpy(), cmap="gray_r")
    image.set(xticks=(), yticks=())
    image.set_xlabel("x", labelpad=1, fontsize=LETTERS)
    return figure


def _contours(axis: Axes, log_density: Tensor, colours: list[str], filled: bool = False) -> None:
    """The regions of highest density that hold 95% and 50% of the probability."""
    side = torch.linspace(-REACH, REACH, SIDE).numpy()
    density = log_density.softmax(0)
    ordered, _ = density.sort(descending=True)
    inside = ordered.cumsum(0)
    levels = [float(ordered[int((inside < share).sum())]) for share in MASS]
    values = density.reshape(SIDE, SIDE).T.numpy()  # z1 runs along the rows of the grid
    if filled:
        axis.contourf(side, side, values, [*levels, float(ordered[0])], colors=colours)
    else:
        axis.contour(side, side, values, levels, colors=colours, linewidths=2.5)
