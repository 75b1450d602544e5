"""Arrays of one's own: what is taken, with the same numbers as NumPy's, and what is refused."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from torch.utils.data import DataLoader, TensorDataset

from experiments.data import as_data
from experiments.data.streams import rows_of
from experiments.errors import UsageError
from ppl_models import PPCA

X = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
COUNTS = (9 * np.abs(X)).astype(np.int64)
READ_ONLY = X.copy()
READ_ONLY.flags.writeable = False
BFLOAT = torch.from_numpy(X).to(torch.bfloat16)
MASKED = np.ma.masked_array(X.copy(), np.zeros_like(X, bool))

TAKEN = {
    "negative strides": (X[::-1, ::-1], X[::-1, ::-1]),
    "big-endian": (X.astype(">f4"), X),
    "big-endian counts": (COUNTS.astype(">i2"), COUNTS),
    "read-only": (READ_ONLY, X),
    "column-major": (np.asfortranarray(X), X),
    "half": (X.astype(np.float16), X.astype(np.float16)),
    "bfloat16": (BFLOAT, BFLOAT.float().numpy()),
    "extended": (X.astype(np.longdouble), X),
    "objects": (X.astype(object), X),
    "whole objects": (COUNTS.astype(object), COUNTS),
    "int64": (COUNTS, COUNTS),
    "uint16": (COUNTS.astype(np.uint16), COUNTS),
    "uint64": (COUNTS.astype(np.uint64), COUNTS),
    "tensor of uint32": (torch.from_numpy(COUNTS.astype(np.uint32)), COUNTS),
    "large integers": (COUNTS + 2**40, COUNTS + 2**40),
    "bools": (X > 0, X > 0),
    "lists": (X.tolist(), X),
    "list of rows": (list(X), X),
    "tracked": (torch.from_numpy(X).requires_grad_(), X),
    "DataFrame": (pd.DataFrame(X), X),
    "mixed DataFrame": (
        pd.DataFrame({"a": [1, 2, 3], "b": [0.5, 1.5, 2.5]}),
        np.array([[1, 0.5], [2, 1.5], [3, 2.5]]),
    ),
    "nullable DataFrame": (pd.DataFrame(COUNTS).astype("Int64"), COUNTS),
    "DataFrame with bools": (
        pd.DataFrame({"a": [1, 2], "b": [True, False]}),
        np.array([[1, 1], [2, 0]]),
    ),
    "nothing masked": (MASKED, X),
}


@pytest.mark.parametrize("name", list(TAKEN))
def test_arrays_that_are_taken(name):
    given, expected = TAKEN[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = as_data(given)
    assert data.pixels.is_floating_point()
    assert not data.pixels.requires_grad
    assert data.levels == 1
    assert (data.pixels.double().numpy() == np.asarray(expected, np.float64)).all()
    batch = next(data.minibatches(2, 0, 0))
    assert (batch.x == data.pixels[batch.index]).all()


def test_bytes_are_over_255():
    array = np.arange(20, dtype=np.uint8).reshape(4, 5)[:, ::-1]
    for given in (array, torch.from_numpy(array.copy())):
        data = as_data(given)
        assert data.levels == 255
        assert (data.observations().numpy() == array.astype(np.float32) / np.float32(255)).all()


HOLED = MASKED.copy()
HOLED[3, 2] = np.ma.masked
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    QUANTIZED = torch.quantize_per_tensor(torch.rand(4, 2), 0.1, 0, torch.quint8)
FIELDS = np.zeros(5, [("height", "f4"), ("weight", "f4")])
COMPLEX = torch.zeros(20, 2, dtype=torch.complex64)
REFUSED = {
    "masked": (HOLED, "masked entries: fill them"),
    "sparse": (torch.from_numpy(X).to_sparse(), r"x\.to_dense\(\)"),
    "scipy sparse": (scipy.sparse.eye(4).tocsr(), r"x\.toarray\(\)"),
    "quantized": (QUANTIZED, "dequantize"),
    "complex": (COMPLEX, "complex"),
    "complex array": (X + 1j, "complex"),
    "complex objects": ((X + 1j).astype(object), "complex"),
    "meta": (torch.zeros(4, 2, device="meta"), "no values"),
    "loader": (DataLoader(TensorDataset(torch.from_numpy(X))), r"loader\.dataset"),
    "no array": ({"given": {"y": X}}, "no array for an observed site"),
    "lengths": ({"a": X, "b": X[:19]}, "'b' has 19 rows, the data have 20"),
    "given lengths": ({"x": X, "given": {"y": X[:19]}}, "'y' has 19 rows"),
    "given text": ({"x": X, "given": {"y": np.array(["a"] * 20)}}, "given 'y' must be numbers"),
    "given nan": ({"x": X, "given": {"y": np.full(20, np.nan)}}, "given 'y' must be finite"),
    "given complex": ({"x": X, "given": {"y": COMPLEX}}, "given 'y' must be .* complex"),
    "given complex array": ({"x": X, "given": {"y": X + 1j}}, "given 'y' must be .* complex"),
    "nan": (np.where(X > 2, np.nan, X), "row 13"),
    "missing": (pd.DataFrame({"a": [1, None, 3], "b": [1, 2, 3]}).astype("Int64"), "row 1"),
    "None": ([[1.0, None], [2.0, 3.0]], "NoneType"),
    "text column": (pd.DataFrame({"a": [1, 2], "name": ["x", "y"]}), "'name'"),
    "dates": (pd.DataFrame({"a": pd.to_datetime(["2020-01-01", "2020-01-02"])}), "numeric"),
    "ragged": ([[1.0, 2.0], [3.0]], "numeric array"),
    "ragged objects": (np.array([[1.0], [1.0, 2.0]], dtype=object).reshape(2, 1), "different len"),
    "fields": (FIELDS, "height, weight"),
    "text": (np.array([["a", "b"]]), "numeric"),
    "too large": (np.array([[2**60, 1], [1, 1]]), r"2\^53"),
    "beyond int64": (np.array([[2**64 - 1, 1], [1, 1]], np.uint64), r"2\^53"),
    "Python's own": ([[2**70, 1], [1, 1]], "numeric array"),
    "no rows": (np.zeros((0, 3)), "with rows"),
    "a vector": (np.zeros(5), "with rows"),
    "a Series": (pd.Series([1.0, 2.0]), "with rows"),
    "a number": (3.0, "with rows"),
    "a path": ("x.npy", "numeric"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_arrays_that_are_refused_in_one_line(name):
    given, words = REFUSED[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UsageError, match=words) as caught:
            as_data(given)
    assert "\n" not in str(caught.value)
    assert not re.search(r"[^.]\.\.(?!\.)", str(caught.value))  # no two full stops


class Doubled(TensorDataset):
    def __getitem__(self, index):
        return tuple(2 * tensor for tensor in super().__getitem__(index))


def test_a_subclass_of_a_tensor_data_set_may_change_its_rows():
    assert (as_data(Doubled(torch.from_numpy(X))).pixels.numpy() == 2 * X).all()


def test_batches_of_a_sampler_have_no_known_size():
    rows = TensorDataset(torch.zeros(4, 2), torch.arange(4))
    loader = DataLoader(rows, batch_sampler=[[0, 1, 2], [3]])
    with pytest.raises(UsageError, match="needs a batch_size"):
        rows_of(loader, PPCA(2, 1))
