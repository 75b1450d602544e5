"""Arrays of one's own as data sets."""

from typing import Any

import torch

from experiments.data.dataset import Data
from experiments.data.transforms import Scale
from experiments.errors import UsageError

__all__ = ["as_data"]


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
        return Data(pixels, transforms=(Scale(255),))
    if not pixels.is_floating_point():
        raise UsageError(f"data must be floats or bytes (uint8), got {pixels.dtype}.")
    if not pixels.isfinite().all():
        row = int((~pixels.flatten(1).isfinite()).any(1).nonzero()[0])
        raise UsageError(f"data hold NaN or infinite values, the first of them in row {row}.")
    return Data(pixels, dtype=pixels.dtype)
