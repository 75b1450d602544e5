"""Files that are either the old or the new, never half of either.

Of several processes only the first one writes.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.runs.errors import UsageError
from experiments.runs.processes import follows

__all__ = [
    "FORMAT",
    "append",
    "new_directory",
    "read_json",
    "stamped_directory",
    "sync",
    "writable",
    "write",
    "write_json",
    "write_synced",
]


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
        with path.open("a") as file:
            file.write(line + "\n")


def write_json(path: Path, content: Any) -> Path:
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    return write(path, lambda file: file.write_text(text))


def read_json(path: Path) -> Any:
    """Read a JSON file of a run.

    Raises:
        UsageError: If it is missing or not JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UsageError(f"{path.parent} is not a run: it has no {path.name}.") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}).") from error


def stamped_directory(command: str) -> Path:
    """A new directory below ``runs``, named by command and time."""
    if follows():
        return Path("runs")
    stamp = time.strftime(f"{command}-%Y%m%d-%H%M%S")
    for suffix in ("", *(f"-{number}" for number in range(2, 100))):
        path = Path("runs") / f"{stamp}{suffix}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise UsageError(
                f"runs cannot be written here ({error.strerror}); use --out."
            ) from error
        return new_directory(path)
    raise UsageError(f"runs/{stamp} and its ninety-nine followers exist; use --out.")


def new_directory(path: Path) -> Path:
    """Make the directory of a new run.

    Raises:
        UsageError: If it holds something already or cannot be written.
    """
    if follows():
        return path
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UsageError(
                f"--out {path} holds something already; name a new directory (or --resume a run)."
            )
    except OSError as error:
        raise UsageError(f"--out {path} cannot be written ({error.strerror}).") from error
    return writable(path)


def writable(path: Path) -> Path:
    """Make a directory if there is none, and try to write there.

    Raises:
        UsageError: If that fails.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        write(path / ".writable", lambda file: file.write_text(""))
        (path / ".writable").unlink()
    except OSError as error:
        raise UsageError(f"--out {path} cannot be written ({error.strerror}).") from error
    return path
