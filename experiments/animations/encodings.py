"""The encodings of digits while a VAE is trained."""

from collections.abc import Iterator
from typing import Any

import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from experiments.animations.frames import DIGITS, lab_training, picture
from experiments.data import Data
from experiments.evaluation.bounds import encode, mean_and_error, per_image
from experiments.evaluation.sampling.samples import latent_grid
from experiments.reports.tiles import mosaic
from guides import Amortized
from ppl_models import VAE
from ppl_models.random_numbers import seeded

REACH = 4.0
"""Half width of the plane, in standard deviations of the prior."""


def encodings(config: Any, train: Data, test: Data) -> Iterator[Image.Image]:
    """The lab's VAE: means of q(z | x) of test images, and the plane decoded, at every frame."""
    model = VAE(tuple(train.image_shape), 2)
    guide = Amortized(model)
    rows, few = train.like(model), test.rows(min(config.images, len(test))).like(model)
    for step in lab_training(config, model, guide, rows):
        model.eval(), guide.eval()
        with torch.no_grad(), seeded(config.seed):
            elbo, _ = mean_and_error(per_image(model, guide, few)["elbo"])
            z = torch.cat([encode(guide, batch, model)["z"] for batch in few.batches(1000)])
            yield picture(_figure(z, few.labels, latent_grid(model, 10), test, step, elbo))
        model.train(), guide.train()


def _figure(
    z: Tensor, labels: Tensor | None, plane: Tensor, data: Data, step: int, elbo: float
) -> Figure:
    figure = Figure(figsize=(7.6, 4.1), layout="constrained")
    left, right = figure.subplots(1, 2)
    assert labels is not None
    drawn = left.scatter(
        *z.T.numpy(),
        s=6,
        c=labels.numpy(),
        cmap=ListedColormap(DIGITS),
        vmin=-0.5,
        vmax=9.5,
        linewidths=0,
    )
    left.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal")
    left.set(xlabel="$z_1$", ylabel="$z_2$", title="means of q(z | x), test images")
    figure.colorbar(drawn, ax=left, ticks=range(10), shrink=0.75)
    side = round(len(plane) ** 0.5)
    whole = mosaic(plane.reshape(-1, *data.image_shape), side, side)[0]
    right.imshow(whole.numpy(), cmap="gray_r", vmin=0, vmax=1)
    right.set(xticks=[], yticks=[], title="E[x | z] over the prior's quantiles")
    figure.suptitle(f"step {step}: ELBO {elbo:.1f} nats per test image")
    return figure
