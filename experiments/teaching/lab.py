"""What the notebooks of the labs use: data, shipped weights, a student's networks in a VAE."""

import os
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.data import Data, load
from experiments.errors import UsageError, listed
from experiments.options.constructors import defaults_of
from experiments.options.presets import PRESETS
from experiments.training.nvae.pretrained import load_pretrained
from guides import GUIDES, TopDown
from ppl_models import NVAE, VAE

SETS = ("digits", "mnist", "fashion_mnist", "kmnist", "omniglot", "cifar10")
"""Data sets of images with classes."""

NOTE = """NOTE: {reason}
This notebook goes on with 'digits' instead: 1797 images of 8x8 pixels that ship with scikit-learn.
Everything works; the figures differ from those quoted for MNIST."""


class Lab(NamedTuple):
    """What a lab works on.

    Args:
        name: of the data set.
        train, test: images and labels.
        x_train, x_test: the images as vectors in [0, 1], ``[N, D]``.
        batch_size: of training.
        epochs: passes over the training images.
    """

    name: str
    train: Data
    test: Data
    x_train: Tensor
    x_test: Tensor
    batch_size: int
    epochs: int

    @property
    def is_mnist(self) -> bool:
        """Whether figures can be compared with those quoted for MNIST."""
        return self.name == "mnist" and len(self.train) == 60_000

    def images(self, x: Tensor) -> Tensor:
        """Vectors ``[n, D]`` as images ``[n, 1, H, W]``."""
        return x.reshape(-1, *self.train.image_shape)

    def framed(self, x: Tensor) -> Tensor:
        """As ``images``, with a white border that keeps neighbours in a grid apart."""
        return F.pad(self.images(x), (1, 1, 1, 1))

    def names(self, count: int) -> list[str]:
        """The labels of the first test images, in words."""
        return self.test.label_names(count) or [str(row) for row in range(count)]

    def batches(self) -> tuple[Tensor, ...]:
        """The training images in a fresh random order, ``[B, D]`` each."""
        order = torch.randperm(len(self.x_train))
        return tuple(self.x_train[index] for index in order.split(self.batch_size))


def open_lab(data: str | None = None) -> Lab:
    """The lab's data: MNIST or what ``LAB_DATA`` says, or digits where that cannot be had.

    Args:
        data: one of ``SETS``; the environment variable ``LAB_DATA``, else mnist.

    Raises:
        UsageError: If the name or ``LAB_EPOCHS`` is something else.
    """
    name = data or os.environ.get("LAB_DATA") or "mnist"
    if name not in SETS:
        raise UsageError(f"LAB_DATA is '{name}', for the labs {listed(name, SETS)}.")
    try:
        splits = load(name)
    except UsageError as error:
        if name == "digits":
            raise
        print(NOTE.format(reason=error))
        name, splits = "digits", load("digits")
    dtype = torch.get_default_dtype()
    x_train, x_test = (split.observations().flatten(1).to(dtype) for split in splits)
    batch_size = 500 if len(x_train) > 10_000 else 50
    return Lab(name, *splits, x_train, x_test, batch_size, _epochs())


def _epochs() -> int:
    text = os.environ.get("LAB_EPOCHS") or "20"
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"LAB_EPOCHS is '{text}'; it must be a number of epochs, 1 or more.")
    return int(text)


def load_shipped(name: str, pair: nn.Module) -> dict[str, Any]:
    """Fill an NVAE and its guide, built as a preset describes them, with the shipped weights.

    Returns what they were trained with.

    Raises:
        UsageError: If no weights ship for that preset.
    """
    preset = PRESETS.get(name, {})
    recipe = {
        "model": "nvae",
        "model_options": {**defaults_of(NVAE), **preset.get("model_options", {})},
        "guide": "top_down",
        "guide_options": {**defaults_of(TopDown), **preset.get("guide_options", {})},
    }
    return load_pretrained(name, pair, recipe)


class Joined(nn.Module):
    """An encoder whose mean and log variance, ``[B, M]`` each, become one tensor ``[B, 2M]``."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(tuple(self.network(x)), -1)


def own_vae(
    decoder: nn.Module, log_variance: Tensor, image_shape: tuple[int, ...], latent_dim: int
) -> VAE:
    """The project's VAE, in evaluation mode, with a student's decoder.

    Args:
        decoder: latents ``[..., M]`` to the means of the pixels ``[..., D]``.
        log_variance: log sigma^2 of the pixels, a number.
        image_shape: ``(C, H, W)``.
        latent_dim: M.
    """
    model = VAE(tuple(image_shape), latent_dim)
    model.decoder = nn.Sequential(decoder, nn.Unflatten(-1, (1, *image_shape)))
    model.likelihood.log_sigma.data = log_variance.detach() / 2
    return model.eval()


def own_guide(model: VAE, encoder: nn.Module) -> nn.Module:
    """The project's guide ``amortized``, in evaluation mode, with a student's encoder.

    Args:
        model: what the guide is for.
        encoder: images ``[B, D]`` to mean and log variance, ``[B, M]`` each.
    """
    guide = GUIDES["amortized"](model)
    guide.encoder = Joined(encoder)
    return guide.eval()
