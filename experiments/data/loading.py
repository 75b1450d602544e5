"""Loads a data set by name and prepares its pixels."""

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from experiments.data.dataset import Data
from experiments.data.digits import digits
from experiments.data.downloads import celeba64, cifar10, omniglot
from experiments.data.files.folder import folder
from experiments.data.files.idx import idx
from experiments.data.files.number_files import number_file
from experiments.data.rows import Read, Reading, Rows
from experiments.data.transforms import Flip, Pad, Scale
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
FEW = 16
"""Bytes that reach no more than this are probably classes, masks or 4-bit levels."""


def load_as(
    options: Mapping[str, Any],
    root: Path | None,
    rows: int | None,
    say: Callable[[str], None] = print,
) -> tuple[Data, Data]:
    """The train and test splits that the options of a run describe; older runs have fewer."""
    names = set(inspect.signature(load).parameters) - {"name", "root", "rows", "say"}
    known = {name: options[name] for name in names if name in options}
    return load(options["data"], root, rows=rows, say=say, **known)


def load(
    name: str,
    root: Path | None = None,
    pad: int = 0,
    binarize: str = "none",
    binarize_seed: int = 0,
    rows: int | None = None,
    dequantize: bool = False,
    bits: int = 8,
    flip: bool = False,
    value_range: tuple[float, float] | None = None,
    background: str | None = None,
    frames: str = "one",
    resize: int = 0,
    label: str | None = None,
    given: str = "none",
    say: Callable[[str], None] = print,
) -> tuple[Data, Data]:
    """The train and test splits of a data set.

    Args:
        name: digits, mnist, fashion_mnist, kmnist, omniglot, cifar10, celeba64, folder, or a file
            of numbers (.npy, .npz or .csv).
        root: directory of the files; by default the environment variable ``PPL_DATA``, else
            ``data``.
        pad: zero-pad images to this side.
        binarize: none, dynamic or static.
        binarize_seed: seed of static binarisation and of dequantisation; the test split uses the
            next seed.
        rows: number of training rows to keep, from the first.
        dequantize: add uniform noise to grey bytes.
        bits: bits per channel; lower-order bits are discarded.
        flip: mirror each training image with probability 1/2 at every visit.
        value_range: values that become 0 and 255, for images of a folder with more than 8 bits.
        background: colour behind transparent pixels of a folder's images; black by default.
        frames: one (refuse files with several), first or all frames of a folder's images.
        resize: side of the square to which a folder's images are resized.
        label: column of a CSV file that contains classes.
        given: labels, to pass the one-hot class of each row as ``batch.given["label"]``.
        say: function that prints notes about skipped or converted files.

    Returns:
        The train and test splits; images are ``[N, C, H, W]``.

    Raises:
        UsageError: If the data are not available, or an option does not fit them.
    """
    if not 0 <= binarize_seed < 2**32:
        raise UsageError(f"binarize_seed={binarize_seed} must lie in 0 to 2^32 - 1.")
    limits = (float(value_range[0]), float(value_range[1])) if value_range else None
    found = read(name, root, Reading(limits, background, frames, resize, label))
    for note in found.notes:
        say(note)
    _check(name, found, pad, flip)
    told = any("--value-range" in note for note in found.notes)  # of 16-bit images
    if found.train.levels == 255 and not told:
        white = max(int(part.pixels.max()) for part in found[:2])
        if 0 < white <= FEW:
            say(
                f"bytes reach {white} of 255, by which they are divided: give floats in [0, 1] if "
                f"{white} is white"
            )
    splits = []
    for split, part, seed in (
        ("train", found.train, binarize_seed),
        ("test", found.test, binarize_seed + 1),
    ):
        source = found.source._replace(name=Path(name).name, split=split)
        pixels, labels, levels = reduce_bits(part, bits, name)
        steps = (Scale(levels),) if levels != 1 else ()
        data = Data(pixels, labels, (*steps, Pad(pad)) if pad else steps, source=source)
        data = data.rows(rows) if split == "train" else data
        data = data.binarized(binarize, seed)
        splits.append(data.dequantized(seed) if dequantize else data)
    train, test = with_labels(*splits) if given == "labels" else splits
    return train.with_steps(Flip()) if flip else train, test


def with_labels(train: Data, test: Data) -> tuple[Data, Data]:
    """Both splits with the class of each row given, one-hot, as ``label`` ``[N, C]``.

    Raises:
        UsageError: If there are no classes, or the two splits have different classes.
    """
    if train.labels is None or test.labels is None:
        raise UsageError(f"'{train.name}' has no labels.")
    if train.name == "omniglot":  # both splits count their own characters from 0
        raise UsageError("--given labels: the test characters of omniglot are not trained on.")
    classes = int(torch.cat([train.labels, test.labels]).max()) + 1

    def given(data: Data) -> Data:
        label = F.one_hot(data.labels.long(), classes).float()  # type: ignore[union-attr]
        return replace(data, given={**data.given, "label": label})

    return given(train), given(test)


def reduce_bits(rows: Rows, bits: int, name: str) -> Rows:
    """Bytes as levels 0 to 2^bits - 1: lower-order bits are discarded."""
    if bits == 8:
        return rows
    if rows.levels != 255 or not 1 <= bits < 8:
        raise UsageError(
            f"bits={bits} must lie in 1 to 8, and '{name}' has {rows.levels + 1} levels."
        )
    return Rows(rows.pixels >> (8 - bits), rows.labels, 2**bits - 1)


def _check(name: str, found: Read, pad: int, flip: bool) -> None:
    """Refuse splits that do not match, and options that do not fit their shape."""
    shape, other = (list(part.pixels.shape[1:]) for part in found[:2])
    if shape != other:
        raise UsageError(f"'{name}' has images {shape} to train on and {other} to test on.")
    for split, part in zip(("train", "test"), found[:2], strict=True):
        if len(part.pixels) < 2:  # a single image gives no standard error
            raise UsageError(f"'{name}' has a single image to {split} on; at least 2 are needed.")
    if not (pad or flip):
        return
    option = "--pad" if pad else "--flip"
    if len(shape) < 2:
        raise UsageError(f"{option} is for images; the rows of '{name}' are {shape}.")
    if len(shape) == 3 and shape[0] not in (1, 3) and shape[2] in (1, 3):
        raise UsageError(
            f"{option} needs images [N, C, H, W]; those of '{name}', {shape}, have their channels "
            "last: give x.transpose(0, 3, 1, 2)."
        )
    if pad and pad < max(shape[-2:]):
        raise UsageError(f"pad={pad} is smaller than the images of '{name}', {shape[-2:]}.")


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
