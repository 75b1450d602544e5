"""One process per run directory: a lock that the system releases when its holder ends."""

import contextlib
import fcntl
import os
import re
import socket
import stat
import sys
from pathlib import Path
from typing import Any, Self

from experiments.errors import TrainingError, UsageError
from experiments.inference.parallel import is_main

LOCK = "run.lock"

OURS = re.compile(rb"\0*|(\d+) (\S+)\n")
"""Contents of a lock file: process and host; empty, or zeros, after a power failure."""


class Lock:
    """Locks a directory until the end of the block, or of the process.

    The file contains the process and host of its holder. A stale lock of this host is taken over;
    a lock of another host cannot be checked and is respected. A link, or a file with other
    contents, is not changed.

    Attributes:
        path: last known path of the directory.

    Raises:
        UsageError: If another process holds it, or the file is not a lock.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory
        self._folder = self._file = -1
        self._process = os.getpid()
        if not is_main():
            return
        self._folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._file = self._taken()
        except BaseException:
            os.close(self._folder)
            raise

    def _taken(self) -> int:
        while True:
            file = self._opened()
            try:
                if self._claimed(file):
                    return file
            except BaseException:
                os.close(file)
                raise
            os.close(file)

    def _opened(self) -> int:
        path = self.path / LOCK
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            file = os.open(LOCK, flags, 0o644, dir_fd=self._folder)
        except OSError as error:
            if path.is_symlink() or path.is_dir():
                raise UsageError(
                    f"{path} is not a file: remove it if it is not needed."
                ) from error
            raise OSError(error.errno, error.strerror, str(path)) from error
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            os.close(file)
            raise UsageError(f"{path} is not a plain file: remove it if it is not needed.")
        return file

    def _claimed(self, file: int) -> bool:
        """Write this process into a lock file; false if its last holder has removed the file."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            self._refuse(*_holder(file))
        except OSError as error:
            if not os.fstat(file).st_size:
                os.unlink(LOCK, dir_fd=self._folder)
            raise UsageError(
                f"{self.path} cannot be locked ({error.strerror}): choose a directory on another "
                "disk."
            ) from error
        if not _same(file, LOCK, self._folder):
            return False
        process, host = _holder(file)
        if process is None:
            raise UsageError(
                f"{self.path / LOCK} is not the lock of a run: remove it if it is not needed."
            )
        if host not in ("", socket.gethostname()):
            self._refuse(process, host)
        try:
            os.ftruncate(file, 0)
            os.pwrite(file, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
        except OSError as error:
            os.unlink(LOCK, dir_fd=self._folder)
            raise OSError(error.errno, error.strerror, str(self.path / LOCK)) from error
        return True

    def _refuse(self, process: str | None, host: str) -> None:
        here = host == socket.gethostname()
        words = "" if here else f"; if it is gone, remove {self.path / LOCK}"
        raise UsageError(
            f"{self.path} is being written by process {process or 'unknown'} on "
            f"{host or 'an unknown host'}{words}."
        )

    def directory(self) -> Path:
        """The present path of the directory, which may have been moved."""
        if self._file < 0 or _same(self._file, self.path / LOCK):
            return self.path
        found = _path_of(self._folder)
        if found is None or not _same(self._file, found / LOCK):
            raise TrainingError(
                f"{self.path} was deleted, moved or unlocked by another process; "
                "nothing more is written."
            )
        self.path = found
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        if self._file >= 0:
            mine = self._process == os.getpid()  # a forked process also leaves this block
            if mine and _same(self._file, LOCK, self._folder):
                with contextlib.suppress(OSError):
                    os.unlink(LOCK, dir_fd=self._folder)
            os.close(self._file)
            os.close(self._folder)
            self._file = -1


def _holder(file: int) -> tuple[str | None, str]:
    """Process and host in a lock file; no process if it has other contents."""
    found = OURS.fullmatch(os.pread(file, 1000, 0))
    if found is None:
        return None, ""
    process, host = ((part or b"").decode(errors="replace") for part in found.groups())
    return process, host


def _same(file: int, path: Path | str, folder: int | None = None) -> bool:
    """Whether an open file is the one at a path."""
    try:
        found = os.stat(path, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    return os.path.samestat(os.fstat(file), found)


def _path_of(folder: int) -> Path | None:
    """The present path of an open directory, if the system provides it."""
    try:
        if sys.platform == "darwin":
            found = fcntl.fcntl(folder, 50, bytes(1024)).rstrip(b"\0")  # F_GETPATH
        else:
            found = os.readlink(f"/proc/self/fd/{folder}").encode()
    except OSError:
        return None
    path = Path(os.fsdecode(found))
    return path if path.is_dir() else None
