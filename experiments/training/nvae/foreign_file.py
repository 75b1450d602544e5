"""A torch file from an untrusted source: checked before it is opened, read without running
code."""

import argparse
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.errors import UsageError, one_line


class Dtype:
    """Stands for ``numpy.dtype`` in a file: the name of a type and the order of its bytes."""

    def __init__(self, name: Any, *_: Any) -> None:
        self.name, self.order = name, "|"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]


def scalar(dtype: Any, content: Any) -> Any:
    """Stands for the constructor of NumPy scalars in a file; gives a plain number or text."""
    name = f"{dtype.order}{dtype.name}"
    if not re.fullmatch(r"[<>=|][biufcUS]\d{1,4}", name) or not isinstance(content, bytes):
        raise ValueError(f"{name} is not a number.")
    (value,) = np.frombuffer(content, name).tolist()
    return value


HARMLESS: list[Any] = [
    argparse.Namespace,
    (Dtype, "numpy.dtype"),
    (scalar, "numpy.core.multiarray.scalar"),
    (scalar, "numpy._core.multiarray.scalar"),
]
"""What may be named in a file, besides what torch allows: arguments and NumPy's scalars."""


def read_foreign(path: Path) -> Any:
    """What ``torch.save`` wrote: plain values, tensors, arguments; nothing else is unpickled."""
    _check_file(path)
    try:
        with torch.serialization.safe_globals(HARMLESS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols and kinds of tensors
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        words = str(error).split("GLOBAL ")[-1].split(" ")[0] if "GLOBAL" in str(error) else ""
        what = f"carries code or foreign objects ({words})" if words else "is no checkpoint"
        raise UsageError(f"{path} {what}; no code in it was run.") from error
    except Exception as error:  # torch.load raises whatever the damaged bytes lead to
        words = one_line(f"{type(error).__name__}, {error}", 200)
        raise UsageError(f"{path} cannot be read: {words}") from error


def _check_file(path: Path) -> None:
    """Refuse what cannot be opened safely, and archives that unpack to more than their size."""
    if not path.exists():
        raise UsageError(f"{path} does not exist.")
    if not path.is_file():  # opening a pipe or a device might never end
        raise UsageError(f"{path} is not a file.")
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(record.file_size for record in archive.infolist())
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    size = path.stat().st_size
    if total > size:  # torch stores records as they are
        raise UsageError(
            f"{path} declares {total} bytes in a file of {size}: it is compressed or damaged, "
            "and not a checkpoint written by torch."
        )
