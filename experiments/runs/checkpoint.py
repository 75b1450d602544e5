"""Checkpoints on disk: folders with a manifest, each either complete or absent.

A checkpoint ``checkpoint/00007`` holds ``weights.safetensors``, what else a command keeps, and
``manifest.json`` with sizes and checksums. It is written under a temporary name, synced and
renamed; only then are older ones removed. No file is read before its checksum is verified.
"""

import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import nn

from experiments.errors import UsageError
from experiments.inference.parallel import is_main
from experiments.runs.environment import version_of
from experiments.runs.files import TEMPORARY, make_directories, reading, sync, write_synced

FORMAT = 1
"""Format of checkpoints; other formats are refused."""

NUMBER = re.compile("[0-9]{5,}")
"""Name of a checkpoint: its number, with zeros in front up to five digits."""

WEIGHTS, MANIFEST = "weights.safetensors", "manifest.json"


def checkpoints(directory: Path) -> list[Path]:
    """A run's complete checkpoints by their numbers, the newest one last."""
    return [path for path in _numbered(directory / "checkpoint") if path.is_dir()]


def _numbered(folder: Path) -> list[Path]:
    """All entries of a folder whose name is a number, the largest last."""
    found = [path for path in folder.glob("[0-9]*") if NUMBER.fullmatch(path.name)]
    return sorted(found, key=lambda path: (int(path.name), path.name))


def latest(directory: Path) -> Path:
    """A run's newest checkpoint."""
    found = checkpoints(directory)
    if not found:
        raise UsageError(f"{directory} has no checkpoint.")
    return found[-1]


def packed(state: dict[str, Any]) -> bytes:
    """A dictionary of plain values and tensors as bytes that ``unpacked`` reads."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def unpacked(content: bytes, path: Path) -> dict[str, Any]:
    """The dictionary given to ``packed``, on the CPU; only plain values and tensors are built."""
    with reading(path):
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise TypeError(f"it holds a {type(state).__name__}")
        return state


def save_weights(
    directory: Path, module: nn.Module, keep: int = 1, more: Mapping[str, bytes] | None = None
) -> None:
    """Save weights and buffers, and ``more`` files, as a run's newest of ``keep`` checkpoints."""
    # copies, since a file has no place for one tensor under two names
    tensors = {
        name: tensor.to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in module.state_dict().items()
    }
    save_checkpoint(directory, {WEIGHTS: save(tensors), **(more or {})}, keep)


def save_checkpoint(directory: Path, files: Mapping[str, bytes], keep: int = 1) -> None:
    """Write a run's next checkpoint, then remove all but the last ``keep``."""
    folder = directory / "checkpoint"
    make_directories([folder])
    done, numbered = checkpoints(directory), _numbered(folder)
    path = folder / f"{int(numbered[-1].name) + 1 if numbered else 1:05d}"
    temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=folder))
    try:
        for name, content in files.items():
            write_synced(temporary / name, content)
        write_synced(temporary / MANIFEST, manifest(files))
        temporary.chmod(0o755)
        sync(temporary)
        os.rename(temporary, path)
        sync(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for old in done[: max(0, len(done) + 1 - keep)]:
        _remove(old)


def forget_checkpoints(directory: Path) -> None:
    """Remove all checkpoints of a run."""
    if is_main():
        for path in checkpoints(directory):
            _remove(path)


def _remove(path: Path) -> None:
    """Remove a checkpoint; a folder without a manifest is not one, and is kept."""
    if path.is_symlink() or not (path / MANIFEST).exists():
        return
    old = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=path.parent))
    os.rename(path, old)  # a partly removed checkpoint must not look complete
    shutil.rmtree(old, ignore_errors=True)


def manifest(files: Mapping[str, bytes]) -> bytes:
    """Names, sizes and checksums, signed by the checksum of the list itself."""
    content: dict[str, Any] = {
        "format": FORMAT,
        "version": version_of("ppl-models"),
        "torch": torch.__version__,
        "files": {},
    }
    for name, data in files.items():
        content["files"][name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    content["sha256"] = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return json.dumps(content, indent=1).encode()


def _read_manifest(path: Path) -> dict[str, tuple[int, str]]:
    """The files that a checkpoint's manifest lists, with their sizes [bytes] and checksums."""
    with reading(path / MANIFEST):
        content = json.loads((path / MANIFEST).read_bytes())
        signature = content.pop("sha256")
        if hashlib.sha256(json.dumps(content).encode()).hexdigest() != signature:
            raise UsageError(f"{path / MANIFEST} is damaged: its checksum differs.")
        if content["format"] != FORMAT:
            raise UsageError(
                f"{path} is of format {content['format']}; this version reads {FORMAT}."
            )
        return {name: (entry["size"], entry["sha256"]) for name, entry in content["files"].items()}


def verified(path: Path, *names: str) -> list[bytes]:
    """Files of a checkpoint, checked against its manifest."""
    listed = _read_manifest(path)
    contents = []
    for name in names:
        if name not in listed:
            raise UsageError(f"{path} holds no {name}: there is nothing to continue from.")
        with reading(path / name):
            content = (path / name).read_bytes()
        size, checksum = listed[name]
        if len(content) != size:
            raise UsageError(f"{path / name} is damaged: {len(content)} bytes instead of {size}.")
        if hashlib.sha256(content).hexdigest() != checksum:
            raise UsageError(f"{path / name} is damaged: its checksum differs.")
        contents.append(content)
    return contents


def load_weights(path: Path, module: nn.Module) -> None:
    """Fill a module from a checkpoint."""
    (content,) = verified(path, WEIGHTS)
    fill(module, content, path)


def fill(module: nn.Module, content: bytes, path: Path) -> None:
    """Fill a module with weights that were read from a checkpoint."""
    with reading(path / WEIGHTS):
        tensors, own = load(content), module.state_dict()
        for name, tensor in tensors.items():
            if name in own and tensor.dtype != own[name].dtype:
                raise UsageError(
                    f"{path / WEIGHTS} does not fit this run: {name} is {tensor.dtype}, "
                    f"not {own[name].dtype}."
                )
            if not tensor.isfinite().all() and name in own and own[name].isfinite().all():
                raise UsageError(f"{path / WEIGHTS} contains weights that are not finite: {name}.")
        try:
            module.load_state_dict(tensors)
        except RuntimeError as error:
            raise UsageError(f"{path / WEIGHTS} does not fit this run: {error}") from error


def shapes_of(directory: Path, *names: str) -> list[list[int]]:
    """Shapes of some weights of a run."""
    path = latest(directory)
    (content,) = verified(path, WEIGHTS)
    with reading(path / WEIGHTS):
        tensors = load(content)
        return [list(tensors[name].shape) for name in names]
