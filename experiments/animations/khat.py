"""The digits on which importance weights are reliable, while a guide is trained."""

from collections.abc import Iterator
from typing import Any

import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from experiments.animations.frames import lab_training, picture
from experiments.data import Data
from experiments.evaluation.bounds import mean_and_error
from experiments.evaluation.khat import UNRELIABLE, khat, weights_of_draws
from guides import Amortized
from ppl_models import VAE
from ppl_models.random_numbers import seeded

DRAWS = 200
"""Draws from q per image and frame; the fitted tail is a fifth of them."""


def khat_by_digit(config: Any, train: Data, test: Data) -> Iterator[Image.Image]:
    """Train the lab's VAE, freeze its decoder, and train a new encoder."""
    model = VAE(tuple(train.image_shape), 2)
    rows, few = train.like(model), test.rows(min(config.images, len(test))).like(model)
    for _ in lab_training(config, model, Amortized(model), rows):
        pass
    model.requires_grad_(False).eval()
    guide = Amortized(model, covariance="full")
    for step in lab_training(config, model, guide, rows):
        with seeded(config.seed):
            log_w = weights_of_draws(model, guide, few, DRAWS)
        elbo, _ = mean_and_error(log_w.mean(1))
        yield picture(_figure(khat(log_w), few.labels, step, elbo))


def _figure(found: Tensor, labels: Tensor | None, step: int, elbo: float) -> Figure:
    figure = Figure(figsize=(7.2, 4.0), layout="constrained")
    axis = figure.subplots()
    assert labels is not None
    classes = labels.unique().tolist()
    shown = found.clamp(-0.5, 3).double()
    axis.boxplot(
        [shown[labels == kind].numpy() for kind in classes],
        tick_labels=[str(kind) for kind in classes],
        showfliers=False,
        showcaps=False,
        whis=(0, 100),
        medianprops={"color": "black", "lw": 2},
    )
    for place, kind in enumerate(classes, 1):
        values = shown[labels == kind]
        spread = place + 0.5 * (torch.arange(len(values)) / max(1, len(values) - 1) - 0.5)
        colour = "tab:red" if values.median() > UNRELIABLE else "tab:blue"
        axis.scatter(spread, values, s=6, alpha=0.5, linewidths=0, color=colour)
    axis.axhline(UNRELIABLE, color="black", lw=1, ls="--")
    axis.set_yticks([-0.5, 0, 0.7, 1, 2, 3], ["-0.5 or less", "0", "0.7", "1", "2", "3 or more"])
    good = (found < UNRELIABLE).double().mean().item()
    axis.set(xlabel="digit", ylabel=r"$\hat k$ of an image's importance weights", ylim=(-0.6, 3.1))
    axis.set_title(
        f"step {step}: ELBO {elbo:.1f} nats, {good:.0%} of the images below {UNRELIABLE}"
    )
    return figure
