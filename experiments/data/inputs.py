"""Data sets from arrays, dictionaries, and torch's and Hugging Face's data sets."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset, default_collate

from experiments.data.arrays import COMPLEX, as_array, as_values
from experiments.data.dataset import Data
from experiments.data.transforms import Scale
from experiments.errors import UsageError, reason


def as_data(
    x: Any, given: Mapping[str, Any] | None = None, missing: Literal["refuse", "mask"] = "refuse"
) -> Data:
    """A data set from arrays or another data set.

    Floats are not changed, bytes (uint8) are divided by 255, and other integers are counts (floats
    of the same value).

    Args:
        x: an array ``[N, ...]``, a tensor or a DataFrame; a dictionary of them by observed site
            (and under "given" a dictionary of what the model conditions on); a torch ``Dataset``;
            or a Hugging Face data set, whose columns are the sites.
        given: what the model conditions on, ``[N, ...]`` each; integers and booleans keep their
            type.
        missing: refuse NaN; or replace it by zero, with a mask that is false there:
            ``given["mask"]``, or ``given["mask_SITE"]`` of each of several sites.

    Raises:
        UsageError: If it is empty, has no rows, is not numeric, has masked or missing entries, or
            holds NaN or infinite values; if two parts have different numbers of rows.
    """
    data = x if isinstance(x, Data) else _observed(columns_of(x), missing)
    more = {name: as_given(name, values) for name, values in (given or {}).items()}
    data = replace(data, given={**data.given, **more})
    for name, values in {**data.others, **data.given}.items():
        if len(values) != len(data):
            raise UsageError(f"'{name}' has {len(values)} rows, the data have {len(data)}.")
    return data


class Columns(NamedTuple):
    """Arrays by observed site (None for the only site), what is given, and labels."""

    sites: dict[str | None, Any]
    given: dict[str, Any]
    labels: Tensor | None = None


def columns_of(x: Any) -> Columns:
    """The contents of any kind of data set as arrays.

    Raises:
        UsageError: If it is a loader, or its rows cannot be stacked.
    """
    if isinstance(x, DataLoader):
        raise UsageError(
            "only fit takes a DataLoader; elsewhere give its data set, loader.dataset."
        )
    if type(x) is TensorDataset:  # a subclass may change its rows
        return _of_rows(x.tensors)
    if isinstance(x, Dataset):
        return _of_rows(_all_rows(x))
    if hasattr(x, "column_names") and hasattr(x, "with_format"):
        x = {name: x.with_format("torch")[:][name] for name in x.column_names}
    return _of_rows(x if isinstance(x, Mapping) else (x,))


def _of_rows(rows: Any) -> Columns:
    """Columns from one array, a tuple (x, and labels if these are classes), or a mapping."""
    if isinstance(rows, Mapping):
        sites = {name: values for name, values in rows.items() if name not in ("given", "index")}
        if not sites:
            raise UsageError("data are a dictionary that has no array for an observed site.")
        return Columns(sites, dict(rows.get("given", {})))
    if not isinstance(rows, tuple | list):
        return Columns({None: rows}, {})
    x, *more = rows
    classes = more and isinstance(more[0], Tensor) and more[0].dtype == torch.int64
    return Columns({None: x}, {}, more[0] if classes and more[0].ndim == 1 else None)


def _all_rows(dataset: Any) -> Any:
    try:
        return default_collate([dataset[i] for i in range(len(dataset))])
    except Exception as error:  # a data set may raise any error
        raise UsageError(
            f"the rows of a {type(dataset).__name__} cannot be stacked: {reason(error)}. It "
            "needs a length, and rows of one shape (torchvision's: transform=ToTensor())."
        ) from error


def _observed(columns: Columns, missing: str) -> Data:
    given = {name: as_given(name, values) for name, values in columns.given.items()}
    sites: dict[str | None, Tensor] = {}
    for name, values in columns.sites.items():
        if missing == "mask":
            key = "mask" if len(columns.sites) == 1 else f"mask_{name}"
            values, given[key] = without_nan(values)
        if name is not None and getattr(values, "ndim", 2) == 1:  # one number per datum
            values = (values.to_numpy() if hasattr(values, "to_numpy") else values)[:, None]
        sites[name] = as_values(values)
    (site, first), *others = sites.items()
    steps = (Scale(255),) if first.dtype == torch.uint8 else ()
    return Data(
        first,
        columns.labels,
        steps,
        dtype=torch.float32 if steps else first.dtype,
        given=given,
        site=site,
        others={str(n): v / 255 if v.dtype == torch.uint8 else v for n, v in others},
    )


def without_nan(values: Any) -> tuple[Tensor, Tensor]:
    """Values with zeros in place of NaN, and a mask that is true where there was no NaN."""
    x = _tensor(_with_nan(values))
    return x.nan_to_num(nan=0.0, posinf=torch.inf, neginf=-torch.inf), ~x.isnan()


def _with_nan(values: Any) -> Any:
    """The values, NaN where an array is masked, a DataFrame has none, or an object is None."""
    if isinstance(values, np.ma.MaskedArray):
        wide = np.result_type(values.dtype, np.float32)
        white = 255 if values.dtype == np.uint8 else 1  # bytes are divided, with gaps or without
        return np.ma.filled(values.astype(wide) / white, np.nan)
    try:
        if isinstance(values, Tensor) or np.asarray(values).dtype != object:
            return values
        if hasattr(values, "isna"):
            return values.to_numpy(np.float64, na_value=np.nan)
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(f"data must be a numeric array [N, ...]: {reason(error)}.") from error


def _tensor(values: Any) -> Tensor:
    if not isinstance(values, Tensor):
        return torch.from_numpy(as_array(values).copy())
    if values.is_complex():
        raise UsageError(COMPLEX)
    return values


def as_given(name: str, values: Any) -> Tensor:
    """An array that a model conditions on, ``[N, ...]``: floats, integers or booleans.

    Raises:
        UsageError: If it is not numeric, complex, not finite, or a single number.
    """
    try:
        rows = _tensor(values)
    except Exception as error:  # __array__ of anyone's classes
        words = reason(error).removesuffix(".")
        raise UsageError(f"given '{name}' must be numbers [N, ...]: {words}.") from error
    if rows.ndim == 0 or not rows.isfinite().all():
        raise UsageError(f"given '{name}' must be finite numbers, a row for each datum.")
    return rows.detach()
