"""A row of parameters per datum, as in classical (non-amortised) inference."""

import math
from typing import Any, Self

import torch.nn.functional as F
from torch import Tensor, nn

from guides.guide import Guide
from ppl_models.batch import Batch


class LocalTable(nn.Module):
    """N rows of numbers, looked up by ``batch.index``.

    Args:
        size: N, the rows of the data set.
        start: initial value of every row, ``[*shape]``.
    """

    def __init__(self, size: int, start: Tensor) -> None:
        super().__init__()
        self.shape = start.shape
        self.rows = nn.Parameter(start.flatten().repeat(size, 1))
        # SVI sets this for its row-wise optimiser; dense gradients suit every other one.
        self.sparse = False

    def forward(self, batch: Batch) -> Tensor:
        """The rows of this batch, ``[B, *shape]``.

        Raises:
            ValueError: If the batch belongs to a data set of another size.
        """
        if batch.size != len(self.rows):
            raise ValueError(
                f"this guide has rows for {len(self.rows)} data, but the batch is from a set of "
                f"{batch.size}; guide.for_data({batch.size}) returns a guide for these data."
            )
        rows = F.embedding(batch.index, self.rows, sparse=self.sparse)
        return rows.reshape(-1, *self.shape)


class PerDatumGuide(Guide):
    """A guide that owns one row per datum of the data set it was built on.

    Args:
        model: the model whose latents are inferred.
        size: N, the number of rows; ``for_data(N)`` returns a guide with N rows.
        local_lr: learning rate of the optimiser of the rows.
        local_steps: number of steps that fit the rows of a held-out data set, with the model
            frozen.
        options: further options of such a guide, for ``for_data``.

    Raises:
        ValueError: If ``size`` is negative or the rate or number of steps is not positive.
    """

    def __init__(
        self, model: nn.Module, size: int, local_lr: float, local_steps: int, **options: Any
    ) -> None:
        super().__init__(model)
        if size < 0:
            raise ValueError(f"size={size} must not be negative.")
        if not 0 < local_lr < math.inf:
            raise ValueError(f"local_lr={local_lr} must be above 0 and finite.")
        if local_steps < 1:
            raise ValueError(f"local_steps={local_steps} must be at least 1.")
        self.size, self.local_lr, self.local_steps = size, local_lr, local_steps
        self._options = options

    def for_data(self, size: int) -> Self:
        """A new guide of the same kind and options, with ``size`` rows at their initial values."""
        return type(self)(
            self.model,
            size=size,
            local_lr=self.local_lr,
            local_steps=self.local_steps,
            **self._options,
        )
