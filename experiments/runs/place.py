"""Where a command writes: a directory of its own, of which a failed start leaves nothing."""

import contextlib
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from experiments.runs.errors import UsageError
from experiments.runs.files import write_text
from experiments.runs.processes import follows

__all__ = ["Place", "writable"]


class Place:
    """The directory of a command's results.

    Args:
        command: names the directory where ``out`` does not.
        out: a new directory, or that of what is continued.
        resume: whether something is continued.

    Raises:
        UsageError: If a new one holds something already or cannot be written; if ``resume`` comes
            without ``out``.
    """

    def __init__(self, command: str, out: Path | None, resume: bool = False) -> None:
        if resume:
            if out is None:
                raise UsageError("--resume needs --out with what is to be continued.")
            self.path, self.made = out, []
        else:
            above = absent(out or Path("runs"))
            self.path = new_directory(out) if out else stamped_directory(command)
            self.made = above if out else [self.path, *above]
        self.resume = resume

    def leave(self, begun: bool) -> None:
        """After a failure: nothing is left behind, unless there is something to go on with."""
        if begun or follows() or self.resume:
            return
        if not (self.path / "metrics.json").exists():
            discard(self.path, self.made)


def absent(path: Path) -> list[Path]:
    """The directories that ``path`` lacks, itself first."""
    return [part for part in (path, *path.parents) if not os.path.lexists(part)]


def discard(path: Path, made: Sequence[Path]) -> None:
    """Empty a directory; remove it and those above, so far as they were ``made`` for it."""
    for entry in path.iterdir() if os.path.isdir(path) else ():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    with contextlib.suppress(OSError):  # others may have put something into one
        for part in made:
            if os.path.isdir(part):
                part.rmdir()


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
    made = absent(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        write_text(path / ".writable", "")
        (path / ".writable").unlink()
    except OSError as error:
        discard(path, made)
        raise UsageError(f"--out {path} cannot be written ({error.strerror}).") from error
    return path
