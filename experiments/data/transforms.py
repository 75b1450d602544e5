"""Transforms from stored values to observations, one small class per step."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Transform:
    """A step from stored values to observations; it maps rows ``[B, ...]`` to rows."""

    def __call__(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def shape(self, shape: torch.Size) -> torch.Size:
        """The shape of a row after this step."""
        return shape


@dataclass(frozen=True)
class Scale(Transform):
    """Divide bytes by the largest one; in place, because the rows are already a copy."""

    levels: int

    def __call__(self, x: Tensor) -> Tensor:
        return x.div_(self.levels)


@dataclass(frozen=True)
class Pad(Transform):
    """Pad images with zeros to a given side length."""

    side: int

    def __call__(self, x: Tensor) -> Tensor:
        height, width = (self.side - side for side in x.shape[-2:])
        return F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))

    def shape(self, shape: torch.Size) -> torch.Size:
        return torch.Size((*shape[:-2], self.side, self.side))


@dataclass(frozen=True)
class Binarize(Transform):
    """Bernoulli pixels; ``draw`` gives those that are the same at every visit (static)."""

    seed: int

    def __call__(self, x: Tensor) -> Tensor:
        return torch.bernoulli(x)

    def draw(self, pixels: Tensor, levels: int) -> Tensor:
        """Zeros and ones as bytes, determined by this seed."""
        return (_uniform(pixels, self.seed) < pixels / levels).to(torch.uint8)


@dataclass(frozen=True)
class Dequantize(Transform):
    """Uniform noise on grey bytes, (levels x + u) / (levels + 1)."""

    seed: int
    levels: int

    def __call__(self, x: Tensor) -> Tensor:
        return _inside((self.levels * x + torch.rand_like(x)) / (self.levels + 1))

    def draw(self, pixels: Tensor, levels: int) -> Tensor:
        """The same with noise determined by this seed."""
        return _inside((pixels + _uniform(pixels, self.seed)) / (levels + 1))


@dataclass(frozen=True)
class Flip(Transform):
    """Mirror every other image, on average; in minibatches only."""

    def __call__(self, x: Tensor) -> Tensor:
        coins = torch.rand(len(x), *(1,) * (x.ndim - 1), device=x.device) < 0.5
        return torch.where(coins, x.flip(-1), x)


def _uniform(pixels: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(pixels.shape, generator=generator, dtype=torch.float32)
    return draws.to(pixels.device)


def _inside(x: Tensor) -> Tensor:
    """Dequantised pixels, strictly between 0 and 1; in float32 the noise may round to 0 or 1."""
    return x.clamp(2**-17, 1 - 2**-16)
