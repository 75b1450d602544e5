"""The record of a run's data, and how the data differ from it later."""

import hashlib
from collections.abc import Sequence
from typing import Any

from experiments.data.dataset import Data


def record_of(train: Data, test: Data) -> dict[str, Any]:
    """Checksums of both splits and, for folders, every file with its split and checksum."""
    return {
        "name": train.name,
        "read": train.source.read,
        "splits": {"train": _split(train), "test": _split(test)},
        "files": [list(file) for file in train.source.files],
    }


def _split(data: Data) -> dict[str, Any]:
    labels = data.labels
    checksum = labels if labels is None else hashlib.sha256(labels.cpu().numpy().tobytes())
    return {
        "shape": list(data.pixels.shape),
        "sha256": data.sha256,
        "labels": checksum and checksum.hexdigest(),
    }


def changes(then: dict[str, Any], now: dict[str, Any]) -> str | None:
    """The differences between two records in words; ``None`` if all common entries are equal."""
    found = []
    for split, part in now["splits"].items():
        old = then["splits"].get(split, {})
        differing = [field for field in part if field in old and old[field] != part[field]]
        if differing:
            found.append(f"{'labels of the ' if differing == ['labels'] else ''}{split} data")
    if not found:
        return None
    told = f"the {' and the '.join(found)} have changed"
    if not (then.get("files") and now["files"]):
        return told
    return f"{told}: {'; '.join(_file_changes(then['files'], now['files']))}"


def _file_changes(then: Sequence[Sequence[str]], now: Sequence[Sequence[str]]) -> list[str]:
    """Files that were added, removed or changed, and the number of test files used in training."""
    old = {name: checksum for name, _, checksum in then}
    new = {name: checksum for name, _, checksum in now}
    kinds = {
        "added": [name for name in new if name not in old],
        "removed": [name for name in old if name not in new],
        "changed": [name for name in new if name in old and new[name] != old[name]],
    }
    told = [f"{len(names)} files {kind} ({_few(names)})" for kind, names in kinds.items() if names]
    trained = {checksum for _, split, checksum in then if "train" in split}
    tested = {checksum for _, split, checksum in then if "test" in split}
    leaked = [
        name for name, split, checksum in now if "test" in split and checksum in trained - tested
    ]
    if leaked:
        told.append(f"{len(leaked)} of the files now tested on were trained on ({_few(leaked)})")
    return told


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
