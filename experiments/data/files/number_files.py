"""Files of numbers as data sets: .npy, .npz and .csv. Nothing in them is unpickled."""

import math
import os
import zipfile
from pathlib import Path
from typing import IO

import numpy as np
import torch

from experiments.data.arrays import EXACT, as_values
from experiments.data.files.csv_files import MISSING, NUMBER, Table, read_csv
from experiments.data.rows import Read, Reading, Source, check_classes, held_out, split
from experiments.errors import UsageError, reason

DESCRIBED = {"u1": "bytes, over 255", "i": "counts", "u": "counts", "b": "counts"}


def number_file(name: str, root: Path | None, reading: Reading) -> Read:
    """The rows of a file; a fifth of them, always the same, is held out.

    Raises:
        UsageError: If it is missing, damaged, or holds anything but rows of numbers.
    """
    path = _place(name, root)
    reading.refuse(path.name, ("label",) if path.suffix.lower() == ".csv" else ())
    notes: list[str] = []
    try:
        values, labels, how = _contents(path, reading, notes)
        pixels = as_values(values)
    except UsageError as error:
        text = str(error)
        raise UsageError(text if str(path) in text else f"{path}: {text}") from None
    except Exception as error:  # unpackers and header parsers may raise any error
        raise UsageError(f"{path} cannot be read ({reason(error)}).") from error
    if len(pixels) < 4:
        raise UsageError(f"{path} holds {len(pixels)} rows; at least 4 are needed.")
    numbers, classes = _classes(path, labels, len(pixels))
    levels = 255 if pixels.dtype == torch.uint8 else 1
    read = f"{path.suffix[1:].lower()}: {'x'.join(map(str, values.shape))} {how}"
    source = Source(read=read, classes=classes)
    return split(pixels, numbers, levels, held_out(len(pixels)), notes, source)


def _place(name: str, root: Path | None) -> Path:
    """The path of the file: as given, or in ``--data-root``."""
    path = Path(name).expanduser() if root is None else root / name
    if root is not None and not path.exists():
        path = root / path.name
    if not path.is_file():
        raise UsageError(f"--data {path} is not a file.")
    return path


def _contents(
    path: Path, reading: Reading, notes: list[str]
) -> tuple[np.ndarray, np.ndarray | None, str]:
    """Values, labels, and how the values are interpreted."""
    suffix = path.suffix.lower()
    if suffix == ".csv":
        table = read_csv(path, reading.label)
        notes += _counting(path, table)
        labels = None if table.labels is None else np.array(table.labels)
        whole = (table.values == np.floor(table.values)).all()
        how = f"{'counts' if whole else 'floats'}, columns {', '.join(table.columns)}"
        label = f", classes {reading.label}" if reading.label else ""
        return table.values, labels, (how if len(how) < 200 else f"{how[:200]} ...") + label
    if suffix == ".npy":
        with path.open("rb") as file:
            values = _read_npy(file, os.fstat(file.fileno()).st_size)
        return values, None, _described(values)
    with zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if "x" not in members:
            found = ", ".join(sorted(members)[:10]) or "nothing"
            raise UsageError(
                f"{path} holds {found}: it must contain x and may contain y (classes)."
            )
        others = sorted(set(members) - {"x", "y"})
        if others:
            notes.append(f"of {path.name} x and y are read, not {', '.join(others[:10])}")
        arrays = {}
        for member in ("x", "y"):
            if member in members:
                with archive.open(members[member]) as file:
                    arrays[member] = _read_npy(file, members[member].file_size)
    return arrays["x"], arrays.get("y"), _described(arrays["x"])


def _counting(path: Path, table: Table) -> list[str]:
    """A note on every column that goes up by one from row to row."""
    first, second = table.values[:1], table.values[1:2]
    likely = np.flatnonzero(second - first == 1)
    names = [table.columns[k] for k in likely if (np.diff(table.values[:, k]) == 1).all()]
    words = "of {} counts the rows, and is read as data: leave it out if nothing was measured"
    return [f"column '{name}' {words.format(path.name)}" for name in names]


def _read_npy(file: IO[bytes], size: int) -> np.ndarray:
    """An array in NumPy's format; the size in its header is checked before reading."""
    version = np.lib.format.read_magic(file)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0}.get(
        version, np.lib.format.read_array_header_2_0
    )
    shape, columns_first, dtype = read_header(file)
    if dtype.hasobject:
        raise UsageError(
            "it contains Python objects, which are not loaded: save an array of numbers"
        )
    count = math.prod(shape)
    said = file.tell() + count * dtype.itemsize
    if said != size:
        raise UsageError(f"it has {size} bytes where its header says {said}")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if said > memory:
        raise UsageError(f"it holds {said / 2**30:.0f} GiB, more than this machine's memory")
    flat = np.frombuffer(bytearray(file.read()), dtype, count)
    return flat.reshape(shape[::-1]).T if columns_first else flat.reshape(shape)


def _described(values: np.ndarray) -> str:
    kind = DESCRIBED.get(values.dtype.str[1:]) or DESCRIBED.get(values.dtype.kind)
    return f"{values.dtype.name} ({kind or 'floats'})"


def _classes(
    path: Path, labels: np.ndarray | None, count: int
) -> tuple[torch.Tensor | None, tuple[str, ...]]:
    """Labels as positions among the sorted classes, and the classes' names."""
    if labels is None:
        return None, ()
    if labels.shape == (count, 1):
        labels = labels[:, 0]
    if labels.shape != (count,):
        raise UsageError(f"{path}: {count} rows, but labels {list(labels.shape)}.")
    if labels.dtype.kind == "U":
        _check_words(path, labels.tolist())
        if all(len(word) < 18 and NUMBER.fullmatch(word) for word in labels.tolist()):
            labels = labels.astype(np.float64)
    if labels.dtype.kind == "f" and (abs(labels) < EXACT).all() and (labels % 1 == 0).all():
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "biuU":
        raise UsageError(f"{path}: labels must be integers or words, got {labels.dtype}.")
    found, numbers = np.unique(labels, return_inverse=True)
    return torch.from_numpy(numbers.astype(np.int64)), tuple(map(str, found.tolist()))


def _check_words(path: Path, words: list[str]) -> None:
    """Refuse classes that are missing or cannot be shown."""
    check_classes(path, words)
    for row, word in enumerate(words):
        if word.strip().lower() in MISSING:
            raise UsageError(
                f"{path}: row {row} has no class: {word!r} stands for a missing value. Leave the "
                "row out, or give the class another name."
            )
