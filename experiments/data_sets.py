"""A data set by name, with what is done to its pixels before anything sees them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.data import Data
from experiments.data_files import read_images, reduce_bits
from experiments.errors import UsageError

__all__ = ["load", "load_as"]


def load_as(options: Mapping[str, Any], root: Path | None, rows: int | None) -> tuple[Data, Data]:
    """The train and test split that a run's options describe; older runs have fewer of them."""
    return load(
        options["data"], root, options["pad"], options["binarize"], options["binarize_seed"],
        rows, options.get("dequantize", False), options.get("bits", 8), options.get("flip", False),
    )  # fmt: skip


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
) -> tuple[Data, Data]:
    """The train and test split of a data set.

    Args:
        name: see ``experiments.data_files.READERS``.
        root: where the files lie; the environment variable ``PPL_DATA``, else ``data``.
        pad: zero-pad images to this side.
        binarize: none, dynamic or static.
        binarize_seed: for static draws; the test split uses the next one.
        rows: keep the first rows of the training split only.
        dequantize: add uniform noise to grey bytes.
        bits: per channel; the lower ones of a byte are dropped.
        flip: training images are mirrored at every other visit.

    Raises:
        UsageError: If the data cannot be had, or an option does not fit them.
    """
    if not 0 <= binarize_seed < 2**32:
        raise UsageError(f"binarize_seed={binarize_seed} must lie in 0 to 2^32 - 1.")
    splits: list[Data] = []
    for split, seed in (("train", binarize_seed), ("test", binarize_seed + 1)):
        pixels, labels, levels = read_images(name, split, root)
        if pad and pad < max(pixels.shape[-2:]):
            raise UsageError(
                f"pad={pad} is smaller than the images of '{name}', {list(pixels.shape[-2:])}."
            )
        if bits != 8 and (levels != 255 or not 1 <= bits < 8):
            raise UsageError(
                f"bits={bits} must lie in 1 to 8, and '{name}' has {levels + 1} levels."
            )
        if len(pixels) < 2:  # one image has no standard error
            raise UsageError(f"'{name}' has a single image to {split} on; at least 2 are needed.")
        if splits and splits[0].pixels.shape[1:] != pixels.shape[1:]:
            raise UsageError(
                f"'{name}' has images {list(splits[0].pixels.shape[1:])} to train on and "
                f"{list(pixels.shape[1:])} to test on."
            )
        if bits != 8:
            pixels, levels = reduce_bits(pixels, bits), 2**bits - 1
        data = Data(pixels, labels, levels, name=name, split=split, pad=pad)
        part = data.rows(rows) if split == "train" else data
        part = part.binarized(binarize, seed)
        splits.append(part.dequantized(seed) if dequantize else part)
    return replace(splits[0], flip=flip), splits[1]
