"""Data sets that torchvision downloads. A failed download leaves nothing behind."""

import contextlib
import fcntl
import io
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.data.rows import Read, Reading, Rows, as_images
from experiments.errors import UsageError

WAYS_OUT = "give --data-root with the files in torchvision's layout, or use --data digits"

PLACES = {
    "Omniglot": ("omniglot-py",),
    "CelebA": ("celeba",),
    "CIFAR10": ("cifar-10-batches-py", "cifar-10-python.tar.gz"),
}
"""What torchvision writes below a root, where that is not a folder of the data set's name."""


def import_torchvision() -> Any:
    """torchvision's data sets, imported only when they are used, because the import takes seconds.

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


def fetch(dataset: str, root: Path, **options: Any) -> Any:
    """A torchvision data set, downloaded if a file of it is missing.

    Raises:
        UsageError: If that fails; the folder is then left as it was before.
    """
    datasets = import_torchvision()
    try:
        with (
            _nothing_left(root, PLACES.get(dataset, (dataset,))),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            return getattr(datasets, dataset)(str(root), download=True, **options)
    except Exception as error:  # torchvision does not catch what its mirrors and unpackers raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(
            f"{dataset} is not in {root} and cannot be downloaded ({reason}); {WAYS_OUT}."
        ) from error


@contextlib.contextmanager
def _nothing_left(root: Path, places: Collection[str]) -> Iterator[None]:
    """Remove what a failed or interrupted download has created in some ``places`` of ``root``.

    Downloads into the same folder take turns, so that none removes the files of another.
    """
    made = [part for part in (root, *root.parents) if not os.path.lexists(part)]
    root.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(root, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # network file systems may have no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        before = _found(root, places)
        try:
            yield
        except BaseException:
            made = [*sorted(_found(root, places) - before, reverse=True), *made]
            for path in made:  # contents before their folder
                with contextlib.suppress(OSError):
                    path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
            raise
    finally:
        os.close(descriptor)


def _found(root: Path, places: Collection[str]) -> set[Path]:
    """The places that exist, and all that lies in them."""
    there = [root / place for place in places if os.path.lexists(root / place)]
    return {*there, *(path for place in there for path in place.rglob("*"))}


def _stack(dataset: Any, side: int, mode: str) -> Tensor:
    """Images of a torchvision data set as bytes ``[N, C, side, side]``."""
    images = [np.asarray(image.convert(mode).resize((side, side))) for image, _ in dataset]
    return as_images(np.stack(images))


def omniglot(root: Path, reading: Reading) -> Read:
    def rows(background: bool) -> Rows:
        dataset = fetch("Omniglot", root, background=background)
        labels = torch.tensor([label for _, label in dataset._flat_character_images])
        return Rows(255 - _stack(dataset, 28, "L"), labels, 255)

    return Read(rows(True), rows(False))


def cifar10(root: Path, reading: Reading) -> Read:
    def rows(train: bool) -> Rows:
        dataset = fetch("CIFAR10", root, train=train)
        return Rows(as_images(dataset.data), torch.tensor(dataset.targets), 255)

    return Read(rows(True), rows(False))


def celeba64(root: Path, reading: Reading) -> Read:
    # The crop of the NVAE; like its authors, we test on the validation split.
    def rows(split: str) -> Rows:
        crop = lambda image: image.crop((15, 40, 163, 188))  # noqa: E731
        dataset = fetch("CelebA", root, split=split, transform=crop)
        return Rows(_stack(dataset, 64, "RGB"), None, 255)

    return Read(rows("train"), rows("valid"))
