"""Readers of data sets by name."""

import os
from collections.abc import Callable
from pathlib import Path

from experiments.data.digits import digits
from experiments.data.downloads import celeba64, cifar10, omniglot
from experiments.data.files.folder import folder
from experiments.data.files.idx import idx
from experiments.data.files.number_files import number_file
from experiments.data.names import check_name, is_array_file
from experiments.data.rows import Read, Reading
from experiments.errors import UsageError

READERS: dict[str, Callable[[Path, Reading], Read]] = {
    "digits": digits,
    "mnist": idx("MNIST"),
    "fashion_mnist": idx("FashionMNIST"),
    "kmnist": idx("KMNIST"),
    "omniglot": omniglot,
    "cifar10": cifar10,
    "celeba64": celeba64,
    "folder": folder,
}

PLAIN = Reading()


def _folder(root: Path | None) -> Path:
    """Where data sets lie: ``root``, or what the environment says, or ``data``."""
    return root or Path(os.environ.get("PPL_DATA") or "data").expanduser()


def read(name: str, root: Path | None = None, reading: Reading = PLAIN) -> Read:
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
    return READERS[name](_folder(root), reading)
