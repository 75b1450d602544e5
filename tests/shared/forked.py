"""Commands in forked processes, which cost no imports, and files before and after them."""

import contextlib
import hashlib
import os
import select
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from experiments.__main__ import main as experiments


class Ended(NamedTuple):
    """How a command ended: its exit code, or the negative number of a signal, and what it said."""

    code: int
    out: str
    err: str


class Child(NamedTuple):
    """A command that was started, and the folder with what it says."""

    process: int
    said: Path

    def wait(self, limit: float = 120) -> Ended:
        """Wait for its end; after this number of seconds it is killed.

        Raises:
            TimeoutError: If it was killed.
        """
        until = time.monotonic() + limit
        while (found := os.waitpid(self.process, os.WNOHANG))[0] == 0:
            if time.monotonic() > until:
                _kill(self.process)
                raise TimeoutError(f"not ended after {limit} s: {self.texts()}")
            time.sleep(0.005)
        return Ended(os.waitstatus_to_exitcode(found[1]), *self.texts())

    def texts(self) -> list[str]:
        """What it has written to its output and to its errors."""
        return [(self.said / name).read_text(errors="replace") for name in ("out", "err")]


def start(
    words: list[str], home: Path, said: Path, prepare: Callable[[], None] | None = None
) -> Child:
    """Start a command in a process of its own.

    Args:
        words: after ``python -m experiments``.
        home: its working directory.
        said: a folder for what it says.
        prepare: called in the new process before the command; with ``SystemExit`` instead of it.

    Raises:
        ChildProcessError: If no process began.
    """
    said.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush(), sys.stderr.flush()
    for _ in range(3):  # a fork of a process with threads may inherit a lock that nobody opens
        hears, tells = os.pipe()
        process = os.fork()
        if process == 0:
            code = 99
            try:
                code = _run(words, home, said, prepare, tells)
            finally:
                os._exit(code)
        os.close(tells)
        with open(hears, "rb") as begun:
            if select.select([begun], [], [], 20)[0] and begun.read():
                return Child(process, said)
        _kill(process)
    raise ChildProcessError(f"{words} never began")


def forked(
    words: list[str], home: Path, said: Path, prepare: Callable[[], None] | None = None
) -> Ended:
    """Run a command in a process of its own to its end."""
    return start(words, home, said, prepare).wait()


class Process:
    """A forked command, with the methods of ``subprocess.Popen`` that tests use.

    Args:
        words: after ``python -m experiments``.
        said: a folder for what it says.
        prepare: called in the new process before the command.
        home: its working directory; by default that of this process.
    """

    def __init__(
        self,
        words: list[str],
        said: Path,
        prepare: Callable[[], None] | None = None,
        home: Path | None = None,
    ) -> None:
        self.child = start(words, home or Path.cwd(), said, prepare)
        self.pid = self.child.process
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if found else None
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        limit = 120 if timeout is None else timeout
        until = time.monotonic() + limit
        while self.poll() is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired("a fork", limit)
            time.sleep(0.005)
        return self.returncode

    def communicate(self) -> list[str]:
        self.wait()
        return self.child.texts()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def as_new() -> None:
    """In a fork: float32 and Python's own warnings, as a new interpreter has them."""
    torch.set_default_dtype(torch.float32)
    warnings.resetwarnings()
    for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", kind)


def _kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)


def _run(
    words: list[str], home: Path, said: Path, prepare: Callable[[], None] | None, begun: int
) -> int:
    os.chdir(home)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(said / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
    os.write(begun, b"!")
    os.close(begun)
    sys.stdout, sys.stderr = (
        open(number, "w", closefd=False, encoding="utf-8", buffering=1)  # noqa: SIM115
        for number in (1, 2)
    )
    sys.argv = ["experiments", *words]
    with contextlib.suppress(ValueError):  # pytest's own handlers
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if prepare:
            prepare()
        experiments()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 98
    return 0


def snapshot(home: Path) -> dict[str, str]:
    """Everything below a directory: kinds, permissions, and contents of files and links."""
    found = {}
    for path in home.rglob("*"):
        name, mode = str(path.relative_to(home)), path.lstat().st_mode
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            content = ""
        found[name] = f"{mode:o} {content}"
    return found
