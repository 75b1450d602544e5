"""IDX files (MNIST and similar data sets), checked before they are used."""

import hashlib
import math
import os
import struct
from pathlib import Path

import numpy as np
import torch

from experiments.data.downloads import WAYS_OUT, fetch
from experiments.data.rows import Read, Reading, Rows
from experiments.errors import UsageError

MD5 = {  # checksums of MNIST's four files, unpacked
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def idx(dataset: str, root: Path, reading: Reading) -> Read:
    """Both splits of a data set whose files have the names of MNIST's."""
    return Read(_split(dataset, root, "train"), _split(dataset, root, "t10k"))


def _split(dataset: str, root: Path, prefix: str) -> Rows:
    raw = root / dataset / "raw"
    files = [raw / f"{prefix}-images-idx3-ubyte", raw / f"{prefix}-labels-idx1-ubyte"]
    if not all(file.is_file() for file in files):
        fetch(dataset, root, train=prefix == "train")
    pixels, labels = _read_idx(files[0], 3), _read_idx(files[1], 1)
    if len(pixels) != len(labels) or not pixels.size:
        sides = "x".join(map(str, pixels.shape[1:]))
        raise UsageError(f"{raw} holds {len(pixels)} images of {sides} and {len(labels)} labels.")
    images = torch.from_numpy(pixels.copy()).unsqueeze(1)
    return Rows(images, torch.from_numpy(labels.astype(np.int64)), 255)


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    """An IDX file of bytes; its magic number, size and, if known, checksum are verified."""
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
        if found != said:  # checked before reading, because either number may be huge
            raise UsageError(
                f"{path} has {found} bytes where its header says {said}; remove it, then "
                f"{WAYS_OUT}."
            )
        content = header + file.read()
    known = MD5.get(path.name) if path.parent.parent.name == "MNIST" else None
    if known and hashlib.md5(content, usedforsecurity=False).hexdigest() != known:
        raise UsageError(f"{path} is damaged (its checksum differs); remove it, then {WAYS_OUT}.")
    return np.frombuffer(content, np.uint8, offset=length).reshape(shape)
