"""Files that are replaced as a whole: readers see the old or the new version.

Only the main process writes. Created files are remembered, so that a failed command removes
only these.
"""

import contextlib
import json
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.errors import TrainingError, UsageError, is_out_of_memory, reason
from experiments.inference.parallel import is_main
from ppl_models.names import suggestion

FORMAT = 2
"""Format of run directories; other formats are refused."""

TEMPORARY = ".ppl-tmp-"
"""Prefix of temporary files and folders; no other hidden file is ever removed."""

SHOWN = 5
"""Number of runs listed if a run does not exist, the newest first."""

_created: dict[Path, tuple[int, int]] = {}
"""Files created by this process: absolute path to device and inode."""


def _remember(path: Path) -> None:
    status = path.lstat()
    _created[path.absolute()] = status.st_dev, status.st_ino


def write(path: Path, save: Callable[[Path], Any], parents: bool = False) -> Path:
    """Have ``save`` fill a temporary file beside ``path``, sync it, and rename it to ``path``.

    With ``parents``, missing directories are made.
    """
    if not is_main():
        return path
    made = missing(path.parent) if parents else []
    try:
        make_directories(made)
        _replace(path, save)
    except BaseException:
        forget(*made)
        raise
    return path


def _replace(path: Path, save: Callable[[Path], Any]) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, suffix=path.suffix, prefix=TEMPORARY)
    temporary = Path(name)
    try:
        os.close(descriptor)
        save(temporary)
        sync(temporary)
        temporary.chmod(0o644)
        mine = path.absolute() in _created or not os.path.lexists(path)
        try:
            os.replace(temporary, path)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
        if mine:
            _remember(path)
        with contextlib.suppress(OSError):  # a failed sync only matters after a power failure
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def missing(path: Path) -> list[Path]:
    """The missing directories of ``path``, innermost first."""
    return [part for part in (path, *path.parents) if not os.path.lexists(part)]


def make_directories(paths: Sequence[Path], new: bool = False) -> None:
    """Make directories as ``missing`` lists them; a ``new`` innermost one must not exist yet."""
    for number, path in enumerate(reversed(paths), 1):
        try:
            path.mkdir()
        except FileExistsError:
            if new and number == len(paths):
                raise
        else:
            _remember(path)


def remove_created(directory: Path) -> None:
    """Remove what this process has created below a directory."""
    below = [path for path in _created if directory.absolute() in path.parents]
    forget(*sorted(below, reverse=True))  # contents before their folder


def forget(*paths: Path) -> None:
    """Remove files and folders that this process has created; folders only if they are empty."""
    for path in paths:
        created = _created.pop(path.absolute(), None)
        with contextlib.suppress(OSError):
            status = path.lstat()
            if created == (status.st_dev, status.st_ino):
                path.rmdir() if stat.S_ISDIR(status.st_mode) else path.unlink()


def remove_temporary(directory: Path) -> None:
    """Remove temporary files that a killed process left in a run directory.

    Links are not followed, including a link to the directory itself.
    """
    if directory.is_symlink() or not directory.is_dir():
        return
    for path in directory.glob(f"{TEMPORARY}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_synced(path: Path, content: bytes) -> None:
    """Write a file and flush it to disk."""
    path.write_bytes(content)
    sync(path)


def append(path: Path, line: str) -> None:
    """Add a line to a file."""
    if is_main():
        new = not os.path.lexists(path)
        with path.open("a", encoding="utf-8") as file:
            if new:
                _remember(path)
            file.write(line + "\n")


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8, whatever the locale; undecodable bytes of a file's name are escaped."""
    content = text.encode("utf-8", "backslashreplace")
    return write(path, lambda file: file.write_bytes(content))


def write_json(path: Path, content: Any) -> Path:
    """Write JSON, which has no infinity and no NaN: such figures are null."""
    return write_text(path, json.dumps(_known(content), indent=2, allow_nan=False) + "\n")


def _known(content: Any) -> Any:
    """Content with None in place of numbers that are not finite."""
    if isinstance(content, dict):
        return {name: _known(value) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_known(value) for value in content]
    unknown = isinstance(content, float) and not math.isfinite(content)
    return None if unknown else content


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Inside, errors caused by the content of a saved file name that file."""
    try:
        yield
    except (UsageError, TrainingError):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        words = reason(error)
        if isinstance(error, KeyError):
            words = f"it lacks {words}"
        elif not isinstance(error, (OSError, ValueError)):
            words = f"{type(error).__name__}: {words}"
        raise UsageError(f"{path} cannot be read ({words}).") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a run; NaN and Infinity, which Python would read, are refused."""
    with reading(path):
        try:
            text = path.read_text(encoding="utf-8")
            content = json.loads(text, parse_constant=_finite, parse_float=_finite)
        except FileNotFoundError:
            raise UsageError(no_run(path)) from None
        if not isinstance(content, dict):
            raise UsageError(f"{path} is not that of a run: it is not a JSON object.")
    return content


def _finite(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError(f"{text} is not a finite number")
    return float(text)


def no_run(path: Path) -> str:
    """Why a file of a run is missing, and the newest runs nearby, in one line."""
    directory = path.parent
    if directory.is_dir():
        words = f"{directory} is not a run: it has no {path.name}."
        return words + _listed(directory, "It holds the runs")
    parent = directory.parent if _runs(directory.parent) else Path("runs")
    near = suggestion(directory.name, _runs(parent))
    return f"{directory} does not exist. {near[:1].upper()}{near[1:]}".rstrip() + _listed(
        parent, f"The newest runs {'here' if parent == Path() else f'in {parent}'} are"
    )


def _listed(directory: Path, words: str) -> str:
    names = _runs(directory)[:SHOWN]
    return f" {words} {', '.join(names)}." if names else ""


def _runs(directory: Path) -> list[str]:
    """Names of the runs in a directory, the newest first; none if it cannot be read."""
    dated = []
    with contextlib.suppress(OSError):
        for run in directory.iterdir():
            config = run / "config.json"
            if config.is_file():
                dated.append((config.stat().st_mtime, run))
    return [run.name for _, run in sorted(dated, reverse=True)]
