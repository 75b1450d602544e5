"""The options and results of file readers."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from experiments.errors import UsageError


class Rows(NamedTuple):
    """One split: values as stored ``[N, ...]``, labels ``[N]``, and the largest byte.

    ``levels`` is 1 if the values are not divided.
    """

    pixels: Tensor
    labels: Tensor | None
    levels: int


class Source(NamedTuple):
    """The source of a data set.

    Args:
        name: name of the data set.
        split: train or test.
        sha256: checksum of the values as read, if the stored ones differ from them.
        read: what was read from files, and how; empty for data sets by name.
        classes: names of the labels, if they have names.
        files: path, split and checksum of every file, for folders.
    """

    name: str = "array"
    split: str = "train"
    sha256: str | None = None
    read: str = ""
    classes: tuple[str, ...] = ()
    files: tuple[tuple[str, str, str], ...] = ()


ARRAY = Source()


class Read(NamedTuple):
    """Both splits of a data set, notes to print, and the source but for its name and split."""

    train: Rows
    test: Rows
    notes: tuple[str, ...] = ()
    source: Source = ARRAY


@dataclass(frozen=True)
class Reading:
    """How files are read.

    Args:
        value_range: the values that become 0 and 255, for images of more than 8 bits.
        background: the colour behind transparent pixels.
        frames: frames to read from an image with several: one (refused), first or all.
        resize: side of the square to which every image is resized; 0 keeps the size.
        label: the column of a CSV file that contains classes.
    """

    value_range: tuple[float, float] | None = None
    background: str | None = None
    frames: str = "one"
    resize: int = 0
    label: str | None = None

    def given(self) -> dict[str, Any]:
        """The options other than the defaults, by their names on the command line."""
        return {
            option.name.replace("_", "-"): value
            for option in fields(self)
            if (value := getattr(self, option.name)) != option.default
        }

    def refuse(self, name: str, allowed: tuple[str, ...] = ()) -> None:
        """Refuse options that do not fit a data set."""
        for option in self.given():
            if option not in allowed:
                of = "--data FILE.csv" if option == "label" else "--data folder"
                raise UsageError(f"--{option} is for {of}, not for '{name}'.")


def check_classes(path: Path, words: Iterable[str]) -> None:
    """Refuse names of classes that a picture cannot show."""
    for word in words:
        if not word.isprintable():
            raise UsageError(f"{path}: the class {word!a} has characters that cannot be shown.")


def held_out(count: int, test: int | None = None) -> np.ndarray:
    """Test rows among ``count`` rows, ``[N]`` booleans; by default a fifth."""
    order = np.random.default_rng(0).permutation(count)
    chosen = np.zeros(count, bool)
    chosen[order[-(test or max(2, count // 5)) :]] = True
    return chosen


def split(
    pixels: Tensor,
    labels: Tensor | None,
    levels: int,
    test: np.ndarray,
    notes: Iterable[str] = (),
    source: Source = ARRAY,
) -> Read:
    """Rows to train on and rows to test on; ``test`` ``[N]`` says which are which."""
    train, rest = (
        Rows(pixels[part], None if labels is None else labels[part], levels)
        for part in (~test, test)
    )
    return Read(train, rest, tuple(notes), source)


def as_images(array: np.ndarray) -> Tensor:
    """Arrays ``[N, H, W]`` or ``[N, H, W, C]`` as ``[N, C, H, W]``."""
    pixels = torch.from_numpy(array)
    return pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2).contiguous()
