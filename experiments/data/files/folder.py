"""A directory of images: which files are read, with their splits and classes."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from experiments.data.files.image_files import SUFFIXES, ImageFile, read_file, walk
from experiments.data.files.image_modes import background
from experiments.data.rows import Read, Reading, Source, as_images, check_classes, held_out, split
from experiments.errors import UsageError

TRAIN = ("train", "training")
TEST = ("test", "testing", "val", "valid", "validation")
DARK = 4095
"""Largest 12-bit value; 16-bit images without larger values probably have 12 bits."""
SYSTEM = ("thumbs.db", "desktop.ini")
"""Files that operating systems leave in folders, besides hidden files."""


class Entry(NamedTuple):
    """An image file, below the folder of its split (or of all)."""

    path: Path
    inner: tuple[str, ...]
    split: str | None = None


def folder(root: Path, reading: Reading) -> Read:
    """The images below a directory as two splits.

    Raises:
        UsageError: If a file cannot be read, or the images do not belong together.
    """
    if not root.is_dir():
        raise UsageError(f"--data-root {root} is not a directory of images.")
    _check_reading(reading)
    found, skipped = _candidates(root)
    entries, notes = _layout(root, found)
    images, chosen = [], []
    for entry in entries:
        image = read_file(entry.path, reading)
        if image is None:
            skipped["(no suffix)"] += 1
            continue
        chosen.append(entry)
        images.append(image)
    kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(skipped.items()))
    if skipped:
        notes.insert(0, f"{skipped.total()} files skipped, hidden or no images: {kinds}")
    notes = [*notes, *_told(images, reading), *_check_range(images, reading)]
    arrays = _together(chosen, images)
    count = sum(map(len, arrays))
    if count < 4:
        raise UsageError(
            " ".join([f"{root} holds {count} images; at least 4 are needed.", *notes])
        )
    return _divided(root, chosen, images, arrays, notes, reading)


def _check_reading(reading: Reading) -> None:
    background(reading)
    if reading.frames not in ("one", "first", "all"):
        raise UsageError(f"frames '{reading.frames}' must be one, first or all.")
    if not 0 <= reading.resize <= 4096:
        raise UsageError(f"--resize must be 1 to 4096, got {reading.resize}.")
    if reading.value_range is not None:
        low, high = reading.value_range
        if not (np.isfinite([low, high]).all() and low < high):
            raise UsageError(f"--value-range {low:g} {high:g}: the first must be the lower one.")
    reading.refuse("folder", ("value-range", "background", "frames", "resize"))


def _candidates(root: Path) -> tuple[list[Path], Counter[str]]:
    """Files that may be images, in order, and the number of skipped files by kind."""
    found, skipped = [], Counter[str]()
    for path in walk(root):
        if path.name.startswith(".") or path.name.lower() in SYSTEM:
            skipped["hidden"] += 1
        elif path.suffix.lower() in SUFFIXES or (not path.suffix and path.is_file()):
            found.append(path)
        else:
            skipped[path.suffix.lower() or "(no suffix)"] += 1
    return sorted(found, key=lambda path: path.relative_to(root).parts), skipped


def _layout(root: Path, paths: list[Path]) -> tuple[list[Entry], list[str]]:
    """Every file with its split, if there are folders train/ and test/ or val/; else with None.

    They may lie in a folder that holds all files, as an archive leaves them.
    """
    inner = [path.relative_to(root).parts for path in paths]
    splits_found = _depth_of_splits(inner)
    inner = [parts[splits_found:] for parts in inner]
    tops = {parts[0] for parts in inner if len(parts) > 1}
    named = {top.lower(): top for top in sorted(tops) if top.lower() in (*TRAIN, *TEST)}
    trained = next((named[name] for name in TRAIN if name in named), None)
    held = next((named[name] for name in TEST if name in named), None)
    everything = [Entry(path, parts) for path, parts in zip(paths, inner, strict=True)]
    if trained and held:
        splits = {trained: "train", held: "test"}
        entries = [
            Entry(entry.path, entry.inner[1:], splits[entry.inner[0]])
            for entry in everything
            if len(entry.inner) > 1 and entry.inner[0] in splits
        ]
        left = len(everything) - len(entries)
        notes = [f"train on {trained}/, test on {held}/"]
        return entries, notes + ([f"left out {left} images in neither"] if left else [])
    alone = tops == set(named.values()) and all(len(parts) > 1 for parts in inner)
    if alone and len(named) > 1:
        raise UsageError(f"{root} has {' and '.join(sorted(tops))} folders, but no train folder.")
    if alone and named:
        (top,) = tops
        return (
            [entry._replace(inner=entry.inner[1:]) for entry in everything],
            [f"{top}/ is the only split: a fifth of it is held out"],
        )
    return everything, []


def _depth_of_splits(inner: list[tuple[str, ...]]) -> int:
    """How many folders, each of which holds all files, lie around those of the splits."""
    shortest = min(map(len, inner), default=0)
    for depth in range(1, shortest - 1):
        tops = {parts[depth].lower() for parts in inner}
        if len({parts[:depth] for parts in inner}) > 1:
            return 0
        if tops & {*TRAIN} and tops & {*TEST}:
            return depth
    return 0


def _told(images: list[ImageFile], reading: Reading) -> list[str]:
    """Notes on conversions that the user may not expect."""
    blended = sum(frame.blended for image in images for frame in image.frames)
    narrowed = sum(image.narrowed for image in images)
    several = sum(image.number > 1 for image in images)
    notes = []
    if blended:
        hint = "" if reading.background else " (--background takes another colour)"
        colour = reading.background or "black"
        notes.append(f"{blended} images have transparent pixels: composited on {colour}{hint}")
    if narrowed:
        notes.append(f"{narrowed} files have 16 bits per channel: the upper 8 are kept")
    if several:
        which = "all of them are" if reading.frames == "all" else "the first of each is"
        notes.append(f"{several} files hold several frames: {which} read")
    return notes


def _check_range(images: list[ImageFile], reading: Reading) -> list[str]:
    """Refuse numbers without a natural range; the message gives the range of all files.

    Returns:
        A note if 16-bit images are nearly black.
    """
    frames = [frame for image in images for frame in image.frames]
    limits = [frame.limits for frame in frames if frame.limits]
    low, high = min([a for a, _ in limits], default=0), max([b for _, b in limits], default=0)
    if any(frame.unscaled for frame in frames):
        raise UsageError(
            f"{len(limits)} images hold numbers from {low:g} to {high:g} (floats, or signed or "
            "32-bit integers): give --value-range LOW HIGH, the values of black and white."
        )
    if reading.value_range and frames and not limits:
        raise UsageError("--value-range is for images of more than 8 bits; these have 8.")
    if not limits or reading.value_range or high > DARK:
        return []
    words = f"16-bit images hold at most {high:g} of 65535: --value-range 0 {high:g} would make "
    return [words + "that white"]


def _together(entries: list[Entry], images: list[ImageFile]) -> list[list[np.ndarray]]:
    """The arrays of all files, with the same size and number of channels."""
    colour = any(frame.array.ndim == 3 for image in images for frame in image.frames)
    first: dict[tuple[int, int, str], Path] = {}
    for entry, image in zip(entries, images, strict=True):
        for frame in image.frames:
            height, width = frame.array.shape[:2]
            # grey images from a palette may be mixed with RGB images
            rgb = frame.array.ndim == 3 or (colour and frame.palette)
            first.setdefault((width, height, "RGB" if rgb else "grey"), entry.path)
    if len(first) > 1:
        (a, one), (b, other) = list(first.items())[:2]
        hint = "; --resize SIDE makes all of one size" if a[:2] != b[:2] else ""
        words = [f"{path} is {w} x {h} {mode}" for (w, h, mode), path in ((a, one), (b, other))]
        raise UsageError(f"images must have one size and mode: {' and '.join(words)}{hint}.")
    return [[_channels(frame.array, colour) for frame in image.frames] for image in images]


def _channels(array: np.ndarray, colour: bool) -> np.ndarray:
    return np.stack([array] * 3, -1) if colour and array.ndim == 2 else array


def _divided(
    root: Path,
    entries: list[Entry],
    images: list[ImageFile],
    arrays: list[list[np.ndarray]],
    notes: list[str],
    reading: Reading,
) -> Read:
    """The two splits; frames of one file stay in one split if there are enough files."""
    counts = [len(part) for part in arrays]
    if entries[0].split:
        test = np.repeat([entry.split == "test" for entry in entries], counts)
    elif len(entries) >= 4:
        test = np.repeat(held_out(len(entries)), counts)
    else:
        test = held_out(sum(counts))
    labels, classes = _labels(root, entries, counts)
    stacked = as_images(np.stack([array for part in arrays for array in part]))
    tested = np.split(test, np.cumsum(counts)[:-1])  # by file
    files = tuple(
        (
            entry.path.relative_to(root).as_posix(),
            " and ".join(sorted({"test" if row else "train" for row in rows})),
            image.sha256,
        )
        for entry, image, rows in zip(entries, images, tested, strict=True)
    )
    train, held = ({sha for _, to, sha in files if part in to} for part in ("train", "test"))
    if entries[0].split and train & held:
        notes.append(f"{len(train & held)} files of the test split are in the train split, too")
    words = [f"{name} {value}" for name, value in reading.given().items()]
    read = ", ".join([f"{len(stacked)} images of {len(entries)} files", *words])
    source = Source(read=read, classes=classes, files=files)
    return split(stacked, labels, 255, test, notes, source)


def _labels(
    root: Path, entries: list[Entry], counts: list[int]
) -> tuple[torch.Tensor | None, tuple[str, ...]]:
    """Class folders sorted by name, as in torchvision's ImageFolder."""
    names = [entry.inner[0] for entry in entries if len(entry.inner) > 1]
    if len(names) < len(entries) or len(set(names)) < 2:
        return None, ()
    classes, numbers = np.unique(names, return_inverse=True)
    check_classes(root, classes.tolist())
    return torch.from_numpy(np.repeat(numbers, counts)), tuple(classes.tolist())
