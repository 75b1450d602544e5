"""scikit-learn's digits, read without importing scikit-learn, which would take a second."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from experiments.data.rows import Read, Reading, held_out, split
from experiments.errors import UsageError

FILE = Path("datasets/data/digits.csv.gz")


@cache
def _table(file: Path) -> np.ndarray:
    """The file's rows: 64 pixels and a label each."""
    return np.loadtxt(file, delimiter=",").astype(np.uint8)


def digits(root: Path, reading: Reading) -> Read:
    """1437 images of 8 x 8 to train on and 360 to test on, in 17 levels of grey.

    Raises:
        UsageError: If scikit-learn is not installed or has no such file.
    """
    spec = find_spec("sklearn")
    places = (spec.submodule_search_locations or []) if spec else []
    file = next((Path(p, FILE) for p in places if Path(p, FILE).is_file()), None)
    if file is None:
        raise UsageError("--data digits needs scikit-learn, which ships them: install it.")
    table = _table(file).copy()  # a caller may change its rows
    images, labels = table[:, :-1].reshape(-1, 1, 8, 8), table[:, -1].astype(np.int64)
    test = held_out(len(table), 360)
    return split(torch.from_numpy(images), torch.from_numpy(labels), 16, test)
