"""Images in memory as bytes; floats, padding and binarisation per batch, on the device."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.data_files import inside
from experiments.errors import UsageError
from ppl_models.program import Batch, describe

__all__ = ["Data", "as_data"]


@dataclass(frozen=True)
class Data:
    """A data set: pixels as stored, and how a batch of them becomes observations.

    Args:
        pixels: ``[N, C, H, W]`` bytes, or an array ``[N, ...]`` of one's own as floats.
        labels: class of every row ``[N]``, if there are classes.
        levels: the largest byte; pixels are divided by it.
        name: of the data set.
        split: train or test.
        binarize: none, dynamic (fresh Bernoulli draws at every visit) or static (drawn once).
        binarize_seed: the seed of static draws.
        dequantize: add uniform noise to the bytes, (levels x + u) / (levels + 1): none, dynamic
            (anew at every visit) or static (added once).
        pad: images are zero-padded to this side; 0 leaves them.
        flip: minibatches show half of the images mirrored, drawn anew at every visit.
        event_shape: the shape of an observation, ``None`` for that of the padded pixels.
        dtype: of the observations.
        source_sha256: the checksum of the pixels before they were binarised.
    """

    pixels: Tensor
    labels: Tensor | None = None
    levels: int = 1
    name: str = "array"
    split: str = "train"
    binarize: str = "none"
    binarize_seed: int | None = None
    dequantize: str = "none"
    pad: int = 0
    flip: bool = False
    event_shape: torch.Size | None = None
    dtype: torch.dtype = torch.float32
    source_sha256: str | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def image_shape(self) -> torch.Size:
        """The shape of a padded image, ``[C, H, W]``, or of a row of one's own array."""
        shape = self.pixels.shape[1:]
        return torch.Size((*shape[:-2], self.pad, self.pad)) if self.pad else shape

    @property
    def data_dim(self) -> int:
        return self.image_shape.numel()

    @cached_property
    def sha256(self) -> str:
        """Checksum of the pixels before binarisation: what a protocol names the data by."""
        if self.source_sha256:
            return self.source_sha256
        return hashlib.sha256(self.pixels.cpu().contiguous().numpy().tobytes()).hexdigest()

    def observations(self, index: Tensor | slice = slice(None)) -> Tensor:
        """Rows as floats, padded, binarised and shaped for the model, ``[B, *event_shape]``."""
        rows = (
            self.pixels[index] if isinstance(index, slice) else self.pixels.index_select(0, index)
        )
        x = rows.to(self.dtype, copy=self.levels != 1)
        if self.levels != 1:
            x /= self.levels
        if self.pad:
            height, width = (self.pad - side for side in x.shape[-2:])
            x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        if self.binarize == "dynamic":
            x = torch.bernoulli(x)
        if self.dequantize == "dynamic":
            x = inside((self.levels * x + torch.rand_like(x)) / (self.levels + 1))
        return x.reshape(-1, *(self.event_shape or self.image_shape))

    def batch(self, index: Tensor) -> Batch:
        """The rows at ``index`` ``[B]`` as the argument of a program."""
        return Batch(self.observations(index), index, len(self))

    def batches(self, size: int) -> Iterator[Batch]:
        """All rows in order."""
        for index in torch.arange(len(self), device=self.pixels.device).split(size):
            yield self.batch(index)

    def minibatches(self, size: int, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
        """All rows in an order that depends on seed and epoch alone; from one batch on."""
        state = int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> 1)
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(state))
        for index in order.to(self.pixels.device).split(size)[start:]:
            batch = self.batch(index)
            yield batch._replace(x=mirrored(batch.x)) if self.flip else batch

    def like(self, model: nn.Module) -> "Data":
        """The data in the dtype, on the device and in the shape that a model observes.

        Raises:
            UsageError: If the model's observations have another number of entries.
        """
        shape = describe(model).x
        if shape.numel() != self.data_dim:
            raise UsageError(
                f"the model observes {list(shape)}, the data set '{self.name}' has "
                f"{list(self.image_shape)} per row."
            )
        parameter = next(model.parameters(), None)
        moved = self if parameter is None else self.to(parameter.device)
        dtype = self.dtype if parameter is None else parameter.dtype
        return replace(moved, event_shape=shape, dtype=dtype)

    def to(self, device: torch.device | str) -> "Data":
        labels = None if self.labels is None else self.labels.to(device)
        return replace(self, pixels=self.pixels.to(device), labels=labels)

    def rows(self, count: int | None) -> "Data":
        """The first ``count`` rows as a data set of their own.

        Raises:
            UsageError: If there are not so many.
        """
        if count is None or count == len(self):
            return self
        if not 2 <= count <= len(self):
            raise UsageError(f"rows={count} must lie between 2 and {len(self)} for '{self.name}'.")
        labels = None if self.labels is None else self.labels[:count]
        return replace(self, pixels=self.pixels[:count], labels=labels, source_sha256=None)

    def binarized(self, how: str, seed: int) -> "Data":
        """With Bernoulli pixels: drawn anew at every visit, or once from ``seed``.

        Raises:
            UsageError: If ``how`` is unknown or a pixel lies outside [0, 1].
        """
        if how not in ("none", "dynamic", "static"):
            raise UsageError(f"binarize '{how}' must be none, dynamic or static.")
        if how == "none":
            return self
        if self.pixels.min() < 0 or self.pixels.max() > self.levels:
            raise UsageError("only pixels in [0, 1] can be binarised.")
        if how == "dynamic":
            return replace(self, binarize="dynamic", binarize_seed=seed)
        ones = self._uniform(seed) < self.pixels / self.levels
        return replace(
            self,
            pixels=ones.to(torch.uint8),
            levels=1,
            binarize="static",
            binarize_seed=seed,
            source_sha256=self.sha256,
        )

    def _uniform(self, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        draws = torch.rand(self.pixels.shape, generator=generator, dtype=torch.float32)
        return draws.to(self.pixels.device)

    @property
    def kind(self) -> str:
        """What a likelihood must fit: grey, grey-dequantised or binary pixels."""
        grey = "grey" if self.dequantize == "none" else "grey-dequantised"
        return grey if self.binarize == "none" else "binary"

    def dequantized(self, seed: int) -> "Data":
        """Grey pixels inside (0, 1), with fresh noise at every visit; refused for all others."""
        if self.kind == "binary" or self.pad or self.pixels.dtype != torch.uint8:
            raise UsageError("--dequantize is for grey pixels, not binarised, not padded.")
        return replace(self, dequantize="dynamic", binarize_seed=seed)

    def fixed(self) -> "Data":
        """The same x at every visit: dynamic pixels are drawn once, from the recorded seed."""
        if self.dequantize == "dynamic":
            noise = self._uniform(self.binarize_seed or 0)
            pixels = inside((self.pixels + noise) / (self.levels + 1))
            fixed = replace(self, pixels=pixels, source_sha256=self.sha256)
            return replace(fixed, levels=1, dequantize="static")
        if self.binarize != "dynamic":
            return self
        return replace(self, binarize="none").binarized("static", self.binarize_seed or 0)


def mirrored(x: Any) -> Tensor:
    """Images ``[B, C, H, W]``, every other one on average with left and right exchanged."""
    coins = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
    return torch.where(coins, x.flip(-1), x)


def as_data(x: Any) -> Data:
    """A data set of an array of one's own, ``[N, ...]``; floats as they are, bytes over 255.

    Raises:
        UsageError: If it is empty, has no rows, is not numeric, or holds NaN or infinite values.
    """
    if isinstance(x, Data):
        return x
    try:
        pixels = torch.as_tensor(x)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"data must be a numeric array [N, ...]: {error}") from error
    if pixels.ndim < 2 or pixels.numel() == 0:
        raise UsageError(f"data must be an array [N, ...] with rows, got {list(pixels.shape)}.")
    if pixels.dtype == torch.uint8:
        return Data(pixels, levels=255)
    if not pixels.is_floating_point():
        raise UsageError(f"data must be floats or bytes (uint8), got {pixels.dtype}.")
    if not pixels.isfinite().all():
        row = int((~pixels.flatten(1).isfinite()).any(1).nonzero()[0])
        raise UsageError(f"data hold NaN or infinite values, the first of them in row {row}.")
    return Data(pixels, dtype=pixels.dtype)
