"""What a submitted notebook may not do: reach the network, start programs, write elsewhere.

Python's audit events refuse it inside the process, and, where Linux allows it, namespaces take
network and other processes away. Neither stops a determined attack on Python itself.
"""

import contextlib
import os
import resource
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

NETWORK = (
    "socket.bind", "socket.connect", "socket.getaddrinfo", "socket.gethostbyname",
    "socket.sendto", "urllib.Request",
)  # fmt: skip
PROGRAMS = ("os.exec", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen")
OTHERS = ("os.kill", "os.killpg", "signal.pthread_kill")
CHANGES = (
    "os.chmod", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink",
    "os.truncate", "shutil.rmtree",
)  # fmt: skip
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
MEMORY = 16 * 2**30
"""Limit on memory [bytes]; the limit on the size of a file is a 160th of it."""
UNSHARE = ("unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child")


@cache
def prefix() -> tuple[str, ...]:
    """Words before a command that give it no network and no reach to other processes.

    There are none where the system has or allows no such namespaces.
    """
    try:
        tried = subprocess.run([*UNSHARE, "true"], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return UNSHARE if tried.returncode == 0 else ()


def confine(folder: Path) -> None:
    """From here on this process writes below ``folder`` alone, and reaches nothing outside."""
    _limit()
    home = os.path.realpath(folder)
    allowed = (home + os.sep, os.devnull)

    def outside(path: Any) -> bool:
        if isinstance(path, int) or path is None:
            return False
        place = os.path.realpath(os.fsdecode(path))
        return place != home and not place.startswith(allowed)

    def watch(event: str, details: tuple[Any, ...]) -> None:
        if event in NETWORK:
            raise PermissionError("no network while a notebook is graded")
        if event in PROGRAMS:
            raise PermissionError("no other programs while a notebook is graded")
        if event in OTHERS:
            raise PermissionError("no signals to other processes while a notebook is graded")
        if event == "open" and isinstance(details[2], int) and details[2] & WRITES:
            if outside(details[0]):
                raise PermissionError(f"no writing to {details[0]} while a notebook is graded")
        elif event in CHANGES and any(map(outside, details)):
            raise PermissionError(f"no changes to {details[0]} while a notebook is graded")

    tempfile.tempdir = home
    sys.addaudithook(watch)


def _limit() -> None:
    """Limits on memory and on files."""
    for kind, most in ((resource.RLIMIT_DATA, MEMORY), (resource.RLIMIT_FSIZE, MEMORY // 160)):
        _, hard = resource.getrlimit(kind)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (most if hard < 0 else min(most, hard), hard))
