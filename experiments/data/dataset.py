"""Stored values, and the transforms that turn a batch of them into observations."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from experiments.data.observed import as_observed
from experiments.data.rows import ARRAY, Source
from experiments.data.transforms import Binarize, Dequantize, Flip, Pad, Scale, Transform
from experiments.errors import UsageError
from ppl_models.batch import Batch


@dataclass(frozen=True)
class Data:
    """A data set: stored values, and the transforms that turn a batch of them into observations.

    Args:
        pixels: stored values ``[N, ...]``: bytes of images ``[N, C, H, W]``, or any numbers.
        labels: class of every row ``[N]``, if there are classes.
        transforms: transforms of a batch, in order.
        drawn: a transform whose noise is part of the stored values (static binarisation).
        given: what a model conditions on, ``[N, ...]`` each: labels, covariates, masks.
        site: the site at which ``pixels`` are observed, if a model looks them up by name.
        others: observations at further sites, ``[N, ...]`` each.
        source: where the values come from.
        event_shape: the shape of an observation, ``None`` for that of the transformed rows.
        dtype: dtype of the observations.
    """

    pixels: Tensor
    labels: Tensor | None = None
    transforms: tuple[Transform, ...] = ()
    drawn: Binarize | Dequantize | None = None
    source: Source = ARRAY
    event_shape: torch.Size | None = None
    dtype: torch.dtype = torch.float32
    given: dict[str, Tensor] = field(default_factory=dict)
    site: str | None = None
    others: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, batch: Batch) -> "Data":
        """The rows of a batch as a data set."""
        sites = dict(batch.x) if isinstance(batch.x, dict) else {None: batch.only}
        site, x = next(iter(sites.items()))
        others = {name: values for name, values in sites.items() if name not in (None, site)}
        return cls(
            x, dtype=x.dtype, event_shape=x.shape[1:], given=batch.given, site=site, others=others
        )

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def split(self) -> str:
        return self.source.split

    @property
    def levels(self) -> int:
        """The largest byte, by which pixels are divided; 1 if they are not divided."""
        return next((step.levels for step in self.transforms if isinstance(step, Scale)), 1)

    @property
    def noise(self) -> Binarize | Dequantize | None:
        """The transform that draws fresh noise for every batch, if there is one."""
        kinds = (Binarize, Dequantize)
        return next((step for step in self.transforms if isinstance(step, kinds)), None)

    @property
    def image_shape(self) -> torch.Size:
        """The shape of a row after all transforms: ``[C, H, W]`` for images."""
        shape = self.pixels.shape[1:]
        for step in self.transforms:
            shape = step.shape(shape)
        return shape

    @property
    def are_images(self) -> bool:
        """Whether rows are images ``[C, H, W]`` that can be shown: grey or RGB."""
        return len(self.image_shape) == 3 and self.image_shape[0] in (1, 3)

    @property
    def data_dim(self) -> int:
        return self.image_shape.numel()

    @property
    def kind(self) -> str:
        """Kind of pixels that the likelihood must support: grey, grey-dequantised or binary."""
        noise = self.noise or self.drawn
        if isinstance(noise, Binarize):
            return "binary"
        return "grey" if noise is None else "grey-dequantised"

    @property
    def binarize(self) -> Literal["none", "dynamic", "static"]:
        """How pixels are binarized: none, dynamic (drawn per batch) or static (drawn once)."""
        if self.kind != "binary":
            return "none"
        return "static" if self.noise is None else "dynamic"

    @property
    def binarize_seed(self) -> int | None:
        """The seed of binarisation or dequantisation."""
        noise = self.noise or self.drawn
        return None if noise is None else noise.seed

    def label_names(self, count: int) -> list[str] | None:
        """Names of the classes of the first ``count`` rows, if there are classes."""
        if self.labels is None:
            return None
        names = self.source.classes
        return [names[k] if names else str(k) for k in self.labels[:count].tolist()]

    @cached_property
    def sha256(self) -> str:
        """Checksum of the values before noise is drawn; it identifies the data in a protocol."""
        if self.source.sha256:
            return self.source.sha256
        digest = hashlib.sha256(_bytes(self.pixels))
        for name, values in sorted({**self.others, **self.given}.items()):
            alike = values.float() if values.is_floating_point() else values  # for every model
            digest.update(name.encode() + _bytes(alike))
        return digest.hexdigest()

    def observations(self, index: Tensor | slice = slice(None), training: bool = False) -> Tensor:
        """Rows as the model observes them, ``[B, *event_shape]``; mirrored only in training."""
        rows = (
            self.pixels[index] if isinstance(index, slice) else self.pixels.index_select(0, index)
        )
        x = rows.to(self.dtype, copy=self.levels != 1)
        for step in self.transforms:
            if training or not isinstance(step, Flip):
                x = step(x)
        return x if self.event_shape is None else x.reshape(-1, *self.event_shape)

    def batch(self, index: Tensor, training: bool = False) -> Batch:
        """The rows at ``index`` ``[B]`` as the argument of a program."""
        x: Any = self.observations(index, training)
        given = {name: values.index_select(0, index) for name, values in self.given.items()}
        if self.site is not None:
            others = {name: v.index_select(0, index) for name, v in self.others.items()}
            x = {self.site: x, **others}
        return Batch(x, index, len(self), given)

    def batches(self, size: int) -> Iterator[Batch]:
        """All rows in order."""
        for index in torch.arange(len(self), device=self.pixels.device).split(size):
            yield self.batch(index)

    def minibatches(self, size: int, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
        """All rows, from batch ``start`` on, in an order that depends only on seed and epoch."""
        state = int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> 1)
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(state))
        for index in order.to(self.pixels.device).split(size)[start:]:
            yield self.batch(index, training=True)

    def like(self, model: nn.Module) -> Self:
        """The data in the dtype, on the device and in the shapes that a model observes.

        Raises:
            UsageError: If the model observes other sites, or other numbers of entries.
        """
        return as_observed(self, model)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        """A copy with the same change applied to all stored arrays."""
        return replace(
            self,
            pixels=change(self.pixels),
            labels=None if self.labels is None else change(self.labels),
            given={name: change(values) for name, values in self.given.items()},
            others={name: change(values) for name, values in self.others.items()},
        )

    def to(self, device: torch.device | str) -> Self:
        return self._each(lambda values: values.to(device))

    def select(self, index: Tensor | slice) -> Self:
        """Some rows as a data set."""
        source = self.source._replace(sha256=None)
        return replace(self._each(lambda values: values[index]), source=source)

    def rows(self, count: int | None) -> Self:
        """The first ``count`` rows as a data set.

        Raises:
            UsageError: If ``count`` is below 2 or above N.
        """
        if count is None or count == len(self):
            return self
        if not 2 <= count <= len(self):
            raise UsageError(f"rows={count} must lie between 2 and {len(self)} for '{self.name}'.")
        return self.select(slice(count))

    def with_steps(self, *steps: Transform) -> Self:
        """A copy with further transforms at the end."""
        return replace(self, transforms=(*self.transforms, *steps))

    def without_noise(self) -> Self:
        """A copy without the noise that is drawn for every batch."""
        kept = tuple(step for step in self.transforms if step is not self.noise)
        return replace(self, transforms=kept)

    def binarized(self, how: str, seed: int) -> Self:
        """A copy with Bernoulli pixels, drawn for every batch, or once from ``seed``.

        Raises:
            UsageError: If ``how`` is unknown or a pixel lies outside [0, 1].
        """
        if how not in ("none", "dynamic", "static"):
            raise UsageError(f"binarize '{how}' must be none, dynamic or static.")
        if how == "none":
            return self
        if self.pixels.min() < 0 or self.pixels.max() > self.levels:
            raise UsageError("only pixels in [0, 1] can be binarised.")
        noisy = self.with_steps(Binarize(seed))
        return noisy if how == "dynamic" else noisy.fixed()

    def dequantized(self, seed: int) -> Self:
        """A copy with grey pixels in (0, 1) and new noise at every visit; only for grey pixels."""
        padded = any(isinstance(step, Pad) for step in self.transforms)
        if self.kind == "binary" or padded or self.pixels.dtype != torch.uint8:
            raise UsageError("--dequantize is for grey pixels, not binarised, not padded.")
        return self.with_steps(Dequantize(seed, self.levels))

    def fixed(self) -> Self:
        """A copy with the same x at every visit: noise is drawn once, from the recorded seed."""
        if self.noise is None:
            return self
        pixels = self.noise.draw(self.pixels, self.levels)
        source = self.source._replace(sha256=self.sha256)
        steps = self.without_noise().transforms
        kept = tuple(step for step in steps if not isinstance(step, Scale))
        return replace(self, pixels=pixels, transforms=kept, drawn=self.noise, source=source)


def _bytes(values: Tensor) -> bytes:
    return values.cpu().contiguous().numpy().tobytes()
