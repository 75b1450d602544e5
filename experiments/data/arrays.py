"""The user's arrays as tensors."""

import sys
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.errors import UsageError, reason

EXACT = 2**53
"""Integers beyond this are not exact in float64."""

COMPLEX = "data are complex: give real and imaginary parts as real numbers."


def as_values(x: Any) -> Tensor:
    """The values of an array as bytes or floats, checked.

    Raises:
        UsageError: If it is empty, has no rows, is not numeric, has masked or missing entries, or
            holds NaN or infinite values.
    """
    if isinstance(x, Tensor):
        values = _from_tensor(x)
    else:
        array = as_array(x)
        values = _checked(torch.from_numpy(array), str(array.dtype))
    if values.ndim < 2 or values.numel() == 0:
        raise UsageError(f"data must be an array [N, ...] with rows, got {list(values.shape)}.")
    if values.is_floating_point() and not values.isfinite().all():
        row = int((~values.flatten(1).isfinite()).any(1).nonzero()[0])
        raise UsageError(f"data hold NaN or infinite values, the first of them in row {row}.")
    return values


def check_precision(x: Tensor, dtype: torch.dtype, what: str = "data") -> None:
    """Refuse values that ``dtype`` rounds until they are alike, or whose squares it lacks.

    ``what`` names them in the message.
    """
    if not x.is_floating_point():
        return
    x = x.unsqueeze(1).flatten(1)  # scalar rows may have no dimension of their own
    limits, name = torch.finfo(dtype), str(dtype).removeprefix("torch.")
    wider = "" if dtype == torch.float64 else ", or use float64 (--dtype float64)"
    largest = x.abs().amax(0).double()
    if largest.max() > 1e-3 * limits.max**0.5:
        raise UsageError(
            f"{what} reach {largest.max():.3g}, whose square is beyond {name}: "
            f"rescale them{wider}."
        )
    if x.dtype.itemsize <= dtype.itemsize and largest.max() > 1e3 * limits.tiny**0.5:
        return
    if len(x) == 1:  # a single row has no spread
        return
    spread = x.double().std(0)
    if 0 < spread.max() < 1e3 * limits.tiny**0.5:
        raise UsageError(
            f"{what} differ by no more than {spread.max():.3g}, whose square vanishes in {name}: "
            f"rescale them{wider}."
        )
    check_rounding(x, dtype, what)


def check_rounding(x: Tensor, dtype: torch.dtype, what: str) -> None:
    """Refuse values of several rows that ``dtype`` rounds until they are alike."""
    wide = x.is_floating_point() and x.dtype.itemsize > dtype.itemsize
    if not wide or len(x) == 1 or not x.numel():
        return
    x = x.unsqueeze(1).flatten(1)
    largest, spread = x.abs().amax(0).double(), x.double().std(0)
    step, name = largest * torch.finfo(dtype).eps, str(dtype).removeprefix("torch.")
    wider = "" if dtype == torch.float64 else ", or use float64 (--dtype float64)"
    noise = 100 * largest * torch.finfo(x.dtype).eps  # alike but for rounding in their own dtype
    rounded = (spread > 1e-3 * spread.max()) & (step > 1e-2 * spread) & (spread > noise)
    if rounded.any():
        worst = int((step / spread).where(rounded, 0.0).argmax())
        raise UsageError(
            f"{what} near {largest[worst]:.6g} differ by {spread[worst]:.3g} only, and {name} "
            f"rounds them to multiples of {step[worst]:.2g}: subtract their mean{wider}."
        )


def _from_tensor(x: Tensor) -> Tensor:
    if x.layout != torch.strided:
        raise UsageError("data are a sparse tensor: give x.to_dense().")
    if x.is_quantized:
        raise UsageError("data are a quantized tensor: give x.dequantize().")
    if x.is_nested:
        raise UsageError("data are a nested tensor, with rows of different sizes.")
    if x.is_meta:
        raise UsageError("data are on the device meta and have no values.")
    return _checked(x.detach().resolve_neg(), str(x.dtype).removeprefix("torch."))


def _checked(x: Tensor, name: str) -> Tensor:
    """A tensor of any dtype as bytes or floats."""
    if x.is_complex():
        raise UsageError(COMPLEX)
    if x.dtype == torch.uint8 or (x.is_floating_point() and x.itemsize > 1):
        return x
    if x.dtype == torch.bool or x.is_floating_point():  # the eight-bit kinds
        return x.to(torch.float32)
    try:
        wide = x.to(torch.int64) if x.dtype != torch.uint64 else _below(x)
    except (RuntimeError, NotImplementedError) as error:
        raise UsageError(f"data must be numbers, got {name}.") from error
    large = int(wide.abs().max()) if wide.numel() else 0
    if large < 0 or large > EXACT:
        raise UsageError(
            f"data hold integers beyond 2^53 ({name}), which floats cannot represent exactly."
        )
    return wide.to(torch.float32 if large <= 2**24 else torch.float64)


def _below(x: Tensor) -> Tensor:
    """Unsigned 64-bit integers as signed ones; those that do not fit become the largest one."""
    signed = x.view(torch.int64)
    return torch.where(signed < 0, torch.iinfo(torch.int64).max, signed)


def _array(x: Any) -> np.ndarray:
    """Anything but a tensor as a NumPy array."""
    if isinstance(x, np.ma.MaskedArray):
        if np.ma.getmaskarray(x).any():
            raise UsageError(
                "data are a masked array with masked entries: fill them (x.filled(value)) or drop "
                "their rows."
            )
        return np.asarray(x.data)
    scipy = sys.modules.get("scipy.sparse")
    if scipy is not None and scipy.issparse(x):
        raise UsageError("data are a sparse matrix: give x.toarray().")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return _of_frame(x) if hasattr(x, "to_numpy") else np.asarray(x)
    except UsageError:
        raise
    except Exception as error:  # __array__ of anyone's classes
        raise UsageError(f"data must be a numeric array [N, ...]: {reason(error)}.") from error


def _of_frame(x: Any) -> np.ndarray:
    """A DataFrame's numbers; text columns are named, and so is the first missing entry's row."""
    array = x.to_numpy()
    if array.dtype != object or array.ndim != 2 or not hasattr(x, "columns"):
        return array
    for name in x.columns:
        column = x[name]
        if getattr(column.dtype, "kind", "O") not in "biuf":
            try:
                column.astype("float64")
            except (TypeError, ValueError):
                if not column.isna().any():
                    raise UsageError(
                        f"column '{name}' of the DataFrame is not numeric ({column.dtype})."
                    ) from None
    missing = x.isna().any(axis=1).to_numpy()
    if missing.any():
        raise UsageError(f"data have missing entries, the first in row {int(missing.argmax())}.")
    return array


def as_array(x: Any) -> np.ndarray:
    """Anything but a tensor as an array of real numbers that torch can share.

    Raises:
        UsageError: If it is not numeric, or has masked or missing entries.
    """
    array = _array(x)
    if array.dtype.names:
        raise UsageError(
            f"data have fields ({', '.join(array.dtype.names)}): give an array of plain numbers, "
            "for example numpy.lib.recfunctions.structured_to_unstructured(x)."
        )
    if array.dtype == object:
        array = _numbers(array)
    if array.dtype.kind not in "biufc":
        raise UsageError(f"data must be a numeric array [N, ...], got {array.dtype}.")
    if array.dtype.kind == "c":
        raise UsageError(COMPLEX)
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    if native.dtype.kind == "f" and native.dtype.itemsize > 8:
        native = native.astype(np.float64)
    if not native.flags.writeable or any(s < 0 or s % native.itemsize for s in native.strides):
        native = native.copy()
    return native


def _numbers(array: np.ndarray) -> np.ndarray:
    """An array of Python objects, if all of them are numbers."""
    kinds = {type(value) for value in array.flat}
    numeric = (bool, int, float, np.number, np.bool_)
    wrong = [kind.__name__ for kind in kinds if not issubclass(kind, numeric)]
    if wrong or not kinds:
        raise UsageError(
            f"data must be a numeric array [N, ...], got objects ({', '.join(sorted(wrong))}); "
            "rows of different lengths give such arrays too."
        )
    if any(issubclass(kind, (complex, np.complexfloating)) for kind in kinds):
        raise UsageError(COMPLEX)
    whole = all(issubclass(kind, (bool, int, np.integer, np.bool_)) for kind in kinds)
    try:
        return array.astype(np.int64 if whole else np.float64)
    except (OverflowError, ValueError, TypeError) as error:
        raise UsageError(f"data must be a numeric array [N, ...]: {reason(error)}.") from error
