"""Faults that a command may meet: of the disk, of memory, of signals, and in what it finds.

A fault prepares a home with a command line in it, and gives what is to happen in the process of
the command before it starts.
"""

import contextlib
import errno
import fcntl
import os
import random
import resource
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.stress.fuzz_files import damage

Fault = Callable[[Path, list[str], random.Random], Callable[[], None] | None]
"""Of the home, the command line (which it may change) and a random generator."""


def fails(owner: Any, names: tuple[str, ...], number: int, error: BaseException) -> None:
    """Have the ``number``-th call of any of some functions, and all after it, fail."""
    calls = []

    def failing(function: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            calls.append(1)
            if len(calls) >= number:
                raise error
            return function(*args, **options)

        return call

    for name in names:
        setattr(owner, name, failing(getattr(owner, name)))


def of_functions(owner: Any, *names: str, error: Callable[[], BaseException]) -> Fault:
    """A fault in which calls of functions fail from a random one on."""

    def fault(home: Path, words: list[str], draws: random.Random) -> Callable[[], None]:
        number = draws.choice([1, 1, 2, 3, draws.randint(4, 20)])
        return lambda: fails(owner, names, number, error())

    return fault


def disk_error(number: int) -> Callable[[], BaseException]:
    return lambda: OSError(number, os.strerror(number), "a file")


def size_limit(home: Path, words: list[str], draws: random.Random) -> Callable[[], None]:
    """A limit on the size of files [bytes]."""
    limit = draws.choice([0, 1, 100, 2000, 20000, 100000])

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        # what the test itself hears of it is no file of the command
        null = os.open("/dev/null", os.O_WRONLY)
        os.dup2(null, 1), os.dup2(null, 2)

    return limited


def signalled(number: int) -> Fault:
    """A signal while the pair is computed."""

    def fault(home: Path, words: list[str], draws: random.Random) -> Callable[[], None]:
        call, whole, moment = [], torch.nn.Module.__call__, draws.randint(1, 60)

        def interrupted(self: Any, *args: Any, **options: Any) -> Any:
            call.append(1)
            if len(call) == moment:
                os.kill(os.getpid(), number)
            return whole(self, *args, **options)

        def prepare() -> None:
            torch.nn.Module.__call__ = interrupted  # type: ignore[method-assign]

        return prepare

    return fault


def read_only(home: Path, words: list[str], draws: random.Random) -> Callable[[], None]:
    """Directories that the user may not write to."""
    chosen = draws.choice([(home,), (home / "runs", home / "sweep"), (*home.rglob("*/"),)])
    for path in chosen:
        path.chmod(0o555)

    def nobody() -> None:
        if os.geteuid() == 0:
            os.setgid(65534), os.setuid(65534)

    return nobody


def damaged(home: Path, words: list[str], draws: random.Random) -> None:
    """A file of the runs that are read."""
    files = [path for path in home.glob("*/*/**/*") if path.is_file() and path.suffix != ".txt"]
    damage(draws, draws.choice(sorted(files)))


def strange_lock(home: Path, words: list[str], draws: random.Random) -> None:
    """A lock file that is a link, another's, a folder or another text; in every directory."""
    kind = draws.choice(["link", "elsewhere", "folder", "text", "zeros", "fifo"])
    for path in [*home.glob("runs/*/"), home / "sweep", home / "sweep/seed=0"]:
        lock = path / "run.lock"
        if kind == "link":
            lock.symlink_to(home / "private/key")
        elif kind == "folder":
            lock.mkdir()
        elif kind == "fifo":
            os.mkfifo(lock)
        else:
            text = {"elsewhere": "12 another.host\n", "text": "export A=1\n", "zeros": "\0" * 9}
            lock.write_text(text[kind])


_held: list[int] = []


def held(home: Path, words: list[str], draws: random.Random) -> None:
    """Directories that another process (this one) holds."""
    while _held:
        os.close(_held.pop())
    for path in [*home.glob("runs/*/"), home / "sweep", home / "sweep/seed=0"]:
        lock = path / "run.lock"
        lock.write_text(f"{os.getpid()} {socket.gethostname()}\n")
        _held.append(os.open(lock, os.O_RDONLY))
        fcntl.flock(_held[-1], fcntl.LOCK_EX)


def occupied(home: Path, words: list[str], draws: random.Random) -> None:
    """Something at the place of the results."""
    with contextlib.suppress(ValueError):
        path = home / words[words.index("--out") + 1]
        if path.exists():
            return
        kind = draws.choice(["file", "folder", "empty", "link", "loop", "hidden", "dangling"])
        if kind in ("file", "loop", "dangling"):
            path.write_text("thesis") if kind == "file" else path.symlink_to(
                path if kind == "loop" else home / "nowhere"
            )
        elif kind == "link":
            path.symlink_to(home / "private")
        else:
            path.mkdir()
            if kind == "folder":
                (path / "thesis.tex").write_text("thesis")
            elif kind == "hidden":
                (path / ".writable").mkdir()
        if draws.random() < 0.5:
            words += ["--nonsense"]


def unknown(home: Path, words: list[str], draws: random.Random) -> None:
    """An option that no command has, or one with a value that is none."""
    words += draws.choice([["--nonsense"], ["--seed", "many"], ["--device", "quantum"]])


def gone(home: Path, words: list[str], draws: random.Random) -> None:
    """A run that is read has vanished."""
    shutil.rmtree(home / draws.choice(["runs/ppca", "runs/vae", "runs/nvae", "runs/stopped"]))


FAULTS: dict[str, Fault] = {
    "disk full": of_functions(os, "fsync", error=disk_error(errno.ENOSPC)),
    "no inodes": of_functions(tempfile, "mkstemp", "mkdtemp", error=disk_error(errno.ENOSPC)),
    "no directories": of_functions(os, "mkdir", error=disk_error(errno.EDQUOT)),
    "no renaming": of_functions(os, "rename", "replace", error=disk_error(errno.EIO)),
    "disk unreadable": of_functions(Path, "read_bytes", "read_text", error=disk_error(errno.EIO)),
    "size limit": size_limit,
    "memory": of_functions(torch.nn.Module, "__call__", error=MemoryError),
    "unforeseen": of_functions(torch.nn.Module, "__call__", error=lambda: KeyError("unforeseen")),
    "SIGTERM": signalled(signal.SIGTERM),
    "SIGKILL": signalled(signal.SIGKILL),
    "read-only": read_only,
    "damaged file": damaged,
    "strange lock": strange_lock,
    "held": held,
    "occupied": occupied,
    "bad option": unknown,
    "vanished": gone,
}
