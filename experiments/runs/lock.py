"""One process per run directory: a lock that the system lifts when its holder ends."""

import fcntl
import os
import socket
from pathlib import Path
from typing import IO, Any, Self

from experiments.runs.errors import UsageError
from experiments.runs.processes import follows

__all__ = ["LOCK", "Lock"]

LOCK = "run.lock"


class Lock:
    """Holds a directory until the end of its block, or of the process, however that went.

    The file names its holder's process and host. One that is left over on this host is taken; one
    from another host cannot be judged from here and is respected.

    Args:
        directory: of a run.

    Raises:
        UsageError: If another process holds it.
    """

    def __init__(self, directory: Path) -> None:
        self.path, self._file = directory / LOCK, None
        if not follows():
            self._file = self._taken()

    def _taken(self) -> IO[str]:
        file = self.path.open("a+", encoding="utf-8", errors="replace")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._refuse(file)
        if not self._is_the_one_on_disk(file):  # its last holder removed it in between
            file.close()
            return self._taken()
        file.seek(0)
        if file.read().rpartition(" ")[2].strip() not in ("", socket.gethostname()):
            self._refuse(file)
        file.truncate(0)
        file.write(f"{os.getpid()} {socket.gethostname()}\n")
        file.flush()
        return file

    def _is_the_one_on_disk(self, file: IO[str]) -> bool:
        return self.path.exists() and os.path.samestat(os.fstat(file.fileno()), self.path.stat())

    def _refuse(self, file: IO[str]) -> None:
        file.seek(0)
        process, _, host = file.read().strip().partition(" ")
        file.close()
        here = host == socket.gethostname()
        words = "" if here else f"; if it is gone, remove {self.path}"
        raise UsageError(
            f"{self.path.parent} is being written by process {process or 'unknown'} on "
            f"{host or 'an unknown host'}{words}."
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        if self._file is not None:
            self.path.unlink(missing_ok=True)
            self._file.close()
            self._file = None
