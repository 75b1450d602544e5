"""The directory to which a command writes; a failed start leaves nothing behind."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from experiments.errors import UsageError
from experiments.inference.parallel import is_main
from experiments.runs.files import TEMPORARY, forget, make_directories, missing, remove_created
from experiments.runs.lock import Lock


class RunDirectory:
    """The directory of a command's results.

    It is ``out``, which is new or that of the run to ``resume``; by default a new one named by
    command and time.

    Raises:
        UsageError: If a new one is not empty or cannot be written; if ``resume`` is given without
            ``out``.
    """

    def __init__(self, command: str, out: Path | None, resume: bool = False) -> None:
        self.resume, self.missing = resume, missing(out or Path("runs"))
        if resume:
            if out is None:
                raise UsageError("--resume needs --out with the run to continue.")
            self.path = out
        else:
            self.path = new_directory(out) if out else stamped_directory(command)

    def empty(self, begun: bool) -> None:
        """After a failure, remove what was created, unless the run can be continued."""
        kept = begun or self.resume or (self.path / "metrics.json").exists()
        if is_main() and not kept:
            remove_created(self.path)

    def remove(self) -> None:
        """Then remove the directory and its new parents, unless they have other contents."""
        forget(self.path, *self.missing)


def stamped_directory(command: str) -> Path:
    """Make a new directory below ``runs``, named by command and time."""
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
    raise UsageError(f"runs/{stamp} and a hundred directories like it exist; use --out.")


def new_directory(path: Path) -> Path:
    """Make the directory of a new run."""
    if not is_main():
        return path
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UsageError(
                f"--out {path} is not empty; name a new directory (or --resume a run)."
            )
    except OSError as error:
        raise UsageError(f"--out {path} cannot be written ({error.strerror}).") from error
    return writable(path)


def writable(path: Path) -> Path:
    """Make a directory if it does not exist, and check that it is writable."""
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
    """Inside, a directory exists and is locked; if it stays empty, it is removed again."""
    made = missing(path)
    writable(path)
    try:
        with Lock(path):
            yield
    finally:
        forget(*made)


def set_aside(path: Path) -> None:
    """Rename the results of a killed command, so that it can start again."""
    with Lock(path):
        number = 1
        while os.path.lexists(aside := path.with_name(f"{path.name}.unfinished-{number}")):
            number += 1
        path.rename(aside)
