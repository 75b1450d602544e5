"""Where a command writes: a directory of its own, of which a failed start leaves nothing."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from experiments.errors import UsageError
from experiments.runs.files import TEMPORARY, forget, make_directories, missing, remove_created
from experiments.runs.lock import Lock
from experiments.runs.processes import is_main

__all__ = ["RunDirectory", "locked", "set_aside"]


class RunDirectory:
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
        self.resume, self.missing = resume, missing(out or Path("runs"))
        if resume:
            if out is None:
                raise UsageError("--resume needs --out with what is to be continued.")
            self.path = out
        else:
            self.path = new_directory(out) if out else stamped_directory(command)

    def empty(self, begun: bool) -> None:
        """After a failure: remove what was created, unless there is something to go on with."""
        kept = begun or self.resume or (self.path / "metrics.json").exists()
        if is_main() and not kept:
            remove_created(self.path)

    def remove(self) -> None:
        """After that: remove the directory too, and those made for it, unless they hold more."""
        forget(self.path, *self.missing)


def stamped_directory(command: str) -> Path:
    """A new directory below ``runs``, named by command and time."""
    if not is_main():
        return Path("runs")
    stamp = time.strftime(f"{command}-%Y%m%d-%H%M%S")
    for suffix in ("", *(f"-{number}" for number in range(2, 100))):
        path = Path("runs") / f"{stamp}{suffix}"
        try:
            make_directories(missing(path) or [path], new=True)
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
    if not is_main():
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
    made = missing(path)
    try:
        make_directories(made)
        descriptor, name = tempfile.mkstemp(prefix=TEMPORARY, dir=path)
        os.close(descriptor)
        os.unlink(name)
    except OSError as error:
        forget(*made)
        raise UsageError(f"--out {path} cannot be written ({error.strerror}).") from error
    return path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Inside, a directory exists and is locked; if it stays empty, it is removed again.

    Raises:
        UsageError: If it cannot be written, or another process holds it.
    """
    made = missing(path)
    writable(path)
    try:
        with Lock(path):
            yield
    finally:
        forget(*made)


def set_aside(path: Path) -> None:
    """Rename what a killed command left in a directory, so that it can begin anew.

    Raises:
        UsageError: If another process is at work there.
    """
    with Lock(path):
        number = 1
        while os.path.lexists(aside := path.with_name(f"{path.name}.unfinished-{number}")):
            number += 1
        path.rename(aside)
