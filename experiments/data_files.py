"""From files to bytes: IDX files, torchvision's data sets, a directory of images."""

import contextlib
import hashlib
import io
import math
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.runs.errors import UsageError
from ppl_models.names import unknown

__all__ = ["READERS", "import_torchvision", "inside", "read_images", "reduce_bits"]

Images = tuple[Tensor, Tensor | None, int]
"""Bytes ``[N, C, H, W]``, labels ``[N]``, and the largest byte."""

MD5 = {  # of MNIST's four files, unpacked
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
WAYS_OUT = "give --data-root with the files in torchvision's layout, or use --data digits"


def reduce_bits(pixels: Tensor, bits: int) -> Tensor:
    """Bytes as levels 0 to 2^bits - 1: the lower bits are dropped."""
    return pixels >> (8 - bits)


def inside(x: Tensor) -> Tensor:
    """Dequantised pixels, strictly between 0 and 1: in float32 the noise may round to an end."""
    return x.clamp(2**-17, 1 - 2**-16)


def read_images(name: str, split: str, root: Path | None = None) -> Images:
    """One split of a data set.

    Raises:
        UsageError: If the name is unknown, or files are missing, damaged or cannot be fetched.
    """
    if name not in READERS:
        raise UsageError(unknown("data set", name, READERS))
    if root is None and name == "folder":
        raise UsageError("--data folder needs --data-root with the directory of the images.")
    folder = Path(root or os.environ.get("PPL_DATA") or "data")
    return READERS[name](folder, split)


def import_torchvision() -> Any:
    """torchvision's data sets, imported where they are used: it takes seconds.

    Raises:
        UsageError: If it does not fit the installed torch.
    """
    try:
        import torchvision.datasets
    except (ImportError, RuntimeError) as error:
        raise UsageError(
            f"torchvision cannot be imported beside torch {torch.__version__} ({error}): install "
            "matching builds of both, e.g. pip install --force-reinstall torch torchvision"
        ) from error
    return torchvision.datasets


def _split(count: int, test: int, split: str) -> np.ndarray:
    order = np.random.default_rng(0).permutation(count)
    return np.sort(order[:-test] if split == "train" else order[-test:])


def _digits(root: Path, split: str) -> Images:
    from sklearn.datasets import load_digits

    digits = load_digits()
    chosen = _split(len(digits.images), 360, split)
    pixels = torch.from_numpy(digits.images[chosen].astype(np.uint8))
    return pixels.unsqueeze(1), torch.from_numpy(digits.target[chosen]), 16


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    """An IDX file of bytes, its magic number and size checked, and its checksum where known."""
    length = 4 + 4 * dimensions
    with path.open("rb") as file:
        header = file.read(length)
        if len(header) < length or header[:4] != bytes((0, 0, 8, dimensions)):
            raise UsageError(
                f"{path} is not an IDX file of {dimensions}-dimensional bytes; remove it, then "
                f"{WAYS_OUT}."
            )
        shape = struct.unpack(f">{dimensions}I", header[4:])
        found, said = os.fstat(file.fileno()).st_size, length + math.prod(shape)
        if found != said:  # before anything is read: either number may be enormous
            raise UsageError(
                f"{path} has {found} bytes where its header says {said}; remove it, then "
                f"{WAYS_OUT}."
            )
        content = header + file.read()
    known = MD5.get(path.name) if path.parent.parent.name == "MNIST" else None
    if known and hashlib.md5(content, usedforsecurity=False).hexdigest() != known:
        raise UsageError(f"{path} is damaged (its checksum differs); remove it, then {WAYS_OUT}.")
    return np.frombuffer(content, np.uint8, offset=length).reshape(shape)


def _idx(dataset: str) -> Callable[[Path, str], Images]:
    def read(root: Path, split: str) -> Images:
        prefix = "train" if split == "train" else "t10k"
        raw = root / dataset / "raw"
        files = [raw / f"{prefix}-images-idx3-ubyte", raw / f"{prefix}-labels-idx1-ubyte"]
        if not all(file.is_file() for file in files):
            _fetch(dataset, root, train=split == "train")
        pixels, labels = _read_idx(files[0], 3), _read_idx(files[1], 1)
        if len(pixels) != len(labels) or not pixels.size:
            sides = "x".join(map(str, pixels.shape[1:]))
            raise UsageError(
                f"{raw} holds {len(pixels)} images of {sides} and {len(labels)} labels."
            )
        return (
            torch.from_numpy(pixels.copy()).unsqueeze(1),
            torch.from_numpy(labels.astype(np.int64)),
            255,
        )

    return read


def _fetch(dataset: str, root: Path, **options: Any) -> Any:
    """A torchvision data set, downloaded if a file of it is missing."""
    datasets = import_torchvision()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return getattr(datasets, dataset)(str(root), download=True, **options)
    except Exception as error:  # torchvision lets through whatever its mirrors and unpackers raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(
            f"{dataset} is not in {root} and cannot be downloaded ({reason}); {WAYS_OUT}."
        ) from error


def _stack(dataset: Any, side: int, mode: str) -> Tensor:
    """Images of a torchvision data set as bytes ``[N, C, side, side]``."""
    images = [np.asarray(image.convert(mode).resize((side, side))) for image, _ in dataset]
    pixels = torch.from_numpy(np.stack(images))
    return pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2).contiguous()


def _omniglot(root: Path, split: str) -> Images:
    dataset = _fetch("Omniglot", root, background=split == "train")
    labels = torch.tensor([label for _, label in dataset._flat_character_images])
    return 255 - _stack(dataset, 28, "L"), labels, 255


def _cifar10(root: Path, split: str) -> Images:
    dataset = _fetch("CIFAR10", root, train=split == "train")
    pixels = torch.from_numpy(dataset.data).permute(0, 3, 1, 2).contiguous()
    return pixels, torch.tensor(dataset.targets), 255


def _celeba64(root: Path, split: str) -> Images:
    # The NVAE's crop, and like its authors' the validation split for testing.
    crop = lambda image: image.crop((15, 40, 163, 188))  # noqa: E731
    dataset = _fetch(
        "CelebA", root, split="train" if split == "train" else "valid", transform=crop
    )
    return _stack(dataset, 64, "RGB"), None, 255


def _eight_bits(image: Any) -> Any:
    """An image as 8-bit grey or RGB; 16-bit grey levels are divided by 257."""
    from PIL import Image

    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).astype(np.int64) // 257).astype(np.uint8))
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _folder(root: Path, split: str) -> Images:
    from PIL import Image, UnidentifiedImageError

    if not root.is_dir():
        raise UsageError(f"--data-root {root} is not a directory of images.")
    images, first = [], None
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        try:
            with path.open("rb") as file, Image.open(file) as opened:
                image = _eight_bits(opened)
        except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
            if path.suffix.lower() not in Image.registered_extensions():
                continue
            raise UsageError(f"{path} is a damaged image ({error}); mend or remove it.") from error
        kind = (image.size, image.mode)
        first = first or (kind, path)
        if kind != first[0]:
            raise UsageError(
                f"images must have one size and mode: {first[1]} is {first[0]}, {path} is {kind}."
            )
        images.append(np.asarray(image))
    if len(images) < 4:
        raise UsageError(f"{root} holds {len(images)} images; at least 4 are needed.")
    chosen = _split(len(images), max(2, len(images) // 5), split)
    pixels = torch.from_numpy(np.stack(images)[chosen])
    pixels = pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2).contiguous()
    return pixels, None, 255


READERS: dict[str, Callable[[Path, str], Images]] = {
    "digits": _digits,
    "mnist": _idx("MNIST"),
    "fashion_mnist": _idx("FashionMNIST"),
    "kmnist": _idx("KMNIST"),
    "omniglot": _omniglot,
    "cifar10": _cifar10,
    "celeba64": _celeba64,
    "folder": _folder,
}
