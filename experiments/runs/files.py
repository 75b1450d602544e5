"""Files that are either the old or the new, never half of either.

Of several processes only the first one writes.
"""

import json
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.runs.errors import UsageError, reason
from experiments.runs.processes import follows

__all__ = [
    "FORMAT", "append", "read_json", "sync", "write", "write_json", "write_synced", "write_text",
]  # fmt: skip

FORMAT = 2
"""Of run directories; one of another format is refused."""


def write(path: Path, save: Callable[[Path], Any]) -> Path:
    """Have ``save`` fill a temporary file beside ``path``, sync it, and rename it to ``path``."""
    if follows():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, suffix=path.suffix, prefix=".")
    temporary = Path(name)
    try:
        os.close(descriptor)
        save(temporary)
        sync(temporary)
        temporary.chmod(0o644)
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def sync(path: Path) -> None:
    """Have a file, or a folder's list of names, reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_synced(path: Path, content: bytes) -> None:
    """Write a file and have it reach the disk."""
    path.write_bytes(content)
    sync(path)


def append(path: Path, line: str) -> None:
    """Add a line to a file."""
    if not follows():
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8, whatever the locale; undecodable bytes of a file's name are escaped."""
    content = text.encode("utf-8", "backslashreplace")
    return write(path, lambda file: file.write_bytes(content))


def write_json(path: Path, content: Any) -> Path:
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    return write_text(path, text)


def read_json(path: Path) -> Any:
    """Read a JSON file of a run.

    Raises:
        UsageError: If it is missing, not JSON, or nested too deeply.
    """
    try:
        return _json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path.parent} is not a run: it has no {path.name}.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read ({reason(error)}).") from error


def _json(text: str) -> Any:
    """JSON as the standard has it: Python would read NaN and Infinity too."""
    return json.loads(text, parse_constant=_finite, parse_float=_finite)


def _finite(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError(f"{text} is no finite number")
    return float(text)
