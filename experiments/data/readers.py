"""Data sets by name: the check of a name, and the readers."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from experiments.data.digits import digits
from experiments.data.downloads import celeba64, cifar10, omniglot
from experiments.data.files.folder import folder
from experiments.data.files.idx import idx
from experiments.data.files.number_files import number_file
from experiments.data.rows import Read, Reading
from experiments.errors import UsageError, listed

READERS: dict[str, Callable[[Path, Reading], Read]] = {
    "digits": digits,
    "mnist": partial(idx, "MNIST"),
    "fashion_mnist": partial(idx, "FashionMNIST"),
    "kmnist": partial(idx, "KMNIST"),
    "omniglot": omniglot,
    "cifar10": cifar10,
    "celeba64": celeba64,
    "folder": folder,
}
ARRAY_FILES = (".npy", ".npz", ".csv")


def check_name(name: str) -> None:
    """Refuse a name that is neither a data set nor a file of numbers."""
    if name in READERS or is_array_file(name):
        return
    if Path(name).is_dir():
        raise UsageError(f"--data {name} is a directory: use --data folder --data-root {name}.")
    if Path(name).is_file():
        raise UsageError(f"--data {name}: files of numbers are {', '.join(ARRAY_FILES)}.")
    raise UsageError(
        f"data set '{name}' is unknown; {listed(name, READERS)}, and files "
        f"({', '.join(ARRAY_FILES)})."
    )


def is_array_file(name: str) -> bool:
    """Whether a name is a file of numbers."""
    return Path(name).suffix.lower() in ARRAY_FILES


def read(name: str, root: Path | None, reading: Reading) -> Read:
    """Both splits of a data set.

    Raises:
        UsageError: If the name is unknown, files are missing, damaged or cannot be fetched, or an
            option does not fit the data set.
    """
    check_name(name)
    if is_array_file(name):
        return number_file(name, root, reading)
    if root is None and name == "folder":
        raise UsageError("--data folder needs --data-root with the directory of the images.")
    if name != "folder":
        reading.refuse(name)
    root = root or Path(os.environ.get("PPL_DATA") or "data").expanduser()
    return READERS[name](root, reading)
