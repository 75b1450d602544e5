"""Networks: tensors to tensors, no probability in them."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ppl_models.names import unknown

Activation = Callable[[], nn.Module]

ACTIVATIONS: dict[str, Activation] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}


def activation_of(name: str) -> Activation:
    """The layer with a name in ``ACTIVATIONS``.

    Raises:
        ValueError: If there is none; names those that there are.
    """
    if name not in ACTIVATIONS:
        raise ValueError(unknown("activation", name, ACTIVATIONS))
    return ACTIVATIONS[name]


def _glorot(layer: nn.Module) -> None:
    if isinstance(layer, nn.Linear):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)


class MLP(nn.Module):
    """Affine layers with an activation between them; any number of leading dimensions.

    Weights and biases have torch's default initialization; with tanh, all weights follow Glorot &
    Bengio (2010) and all biases are zero.

    Args:
        sizes: widths from input to output; two of them make a single affine map.
        activation: the layer between two affine maps.

    Raises:
        ValueError: If there are fewer than two widths or one is below 1.
    """

    def __init__(self, sizes: Sequence[int], activation: Activation = nn.ReLU) -> None:
        super().__init__()
        if len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(f"sizes={tuple(sizes)} must be at least two positive widths.")
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(sizes):
            layers += [nn.Linear(fan_in, fan_out), activation()]
        self.layers = nn.Sequential(*layers[:-1])
        if any(isinstance(layer, nn.Tanh) for layer in layers):
            self.apply(_glorot)

    @property
    def head(self) -> Any:
        """The last affine layer."""
        return self.layers[-1]

    @torch.no_grad()
    def centre(self, x: Tensor) -> None:
        """Subtract ``x``, the mean of the first inputs, from them; others stay as they are."""
        first: nn.Linear = self.layers[0]  # type: ignore[assignment]
        first.bias.sub_(first.weight[:, : len(x)] @ x)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class ImageMLP(nn.Module):
    """An MLP whose output is ``number`` values for every pixel, ``[..., number, *data_shape]``."""

    def __init__(
        self,
        latent_dim: int,
        hidden_dims: Sequence[int],
        number: int,
        data_shape: Sequence[int],
        activation: Activation = nn.ReLU,
    ) -> None:
        super().__init__()
        self.shape = (number, *data_shape)
        self.mlp = MLP((latent_dim, *hidden_dims, math.prod(self.shape)), activation)

    def forward(self, z: Tensor) -> Tensor:
        return self.mlp(z).reshape(*z.shape[:-1], *self.shape)


def _quarter(data_shape: Sequence[int]) -> tuple[int, int, int]:
    if len(data_shape) != 3 or data_shape[1] % 4 or data_shape[2] % 4:
        raise ValueError(
            "convolutions need images [C, H, W] with sides divisible by 4, "
            f"not {list(data_shape)}."
        )
    channels, height, width = data_shape
    return channels, height // 4, width // 4


class ConvEncoder(nn.Module):
    """Two strided convolutions and two affine layers, for images ``[..., C, H, W]``.

    Args:
        data_shape: C, H and W, the sides divisible by 4 (28 or 32, say).
        outputs: the length of the result, ``[..., outputs]``.

    Raises:
        ValueError: If a side is not divisible by 4.
    """

    def __init__(self, data_shape: Sequence[int], outputs: int) -> None:
        super().__init__()
        channels, height, width = _quarter(data_shape)
        self.data_shape = tuple(data_shape)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 32, 4, 2, 1),
            nn.SiLU(),
            nn.Conv2d(32, 64, 4, 2, 1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(64 * height * width, 256),
            nn.SiLU(),
        )
        self.head = nn.Linear(256, outputs)

    def forward(self, x: Tensor) -> Tensor:
        features = self.layers(x.reshape(-1, *self.data_shape))
        return self.head(features).reshape(*x.shape[: -len(self.data_shape)], -1)


class ConvDecoder(nn.Module):
    """Two affine layers and two transposed convolutions, to ``[..., number, C, H, W]``.

    Args:
        latent_dim: the length of z.
        number: values per pixel.
        data_shape: C, H and W, the sides divisible by 4.

    Raises:
        ValueError: If a side is not divisible by 4.
    """

    def __init__(self, latent_dim: int, number: int, data_shape: Sequence[int]) -> None:
        super().__init__()
        channels, height, width = _quarter(data_shape)
        self.shape = (number, *data_shape)
        self.layers = nn.Sequential(
            nn.Linear(latent_dim, 256),
            nn.SiLU(),
            nn.Linear(256, 64 * height * width),
            nn.SiLU(),
            nn.Unflatten(1, (64, height, width)),
            nn.ConvTranspose2d(64, 32, 4, 2, 1),
            nn.SiLU(),
            nn.ConvTranspose2d(32, number * channels, 4, 2, 1),
        )

    def forward(self, z: Tensor) -> Tensor:
        pixels = self.layers(z.reshape(-1, z.shape[-1]))
        return pixels.reshape(*z.shape[:-1], *self.shape)
