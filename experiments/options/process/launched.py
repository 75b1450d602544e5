"""What a launcher says in the environment: how many processes there are, and which one this is."""

import os
import socket

from experiments.errors import UsageError


class LaunchError(UsageError):
    """A process that cannot connect to the others; it prints its own error."""


def number_of_processes() -> int:
    return max(1, _number("WORLD_SIZE", 1))


def is_main() -> bool:
    """Whether this is the main process, the one of rank 0: it prints and writes."""
    return not 0 < _number("RANK", 0) < number_of_processes()


def local_position() -> int:
    """Which of this machine's processes it is, from 0."""
    return _number("LOCAL_RANK", 0)


def _number(name: str, default: int) -> int:
    """A variable's value, or ``default`` where it is none: ``check_launch`` refuses it."""
    text = os.environ.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else default


def check_launch() -> None:
    """Refuse a launcher's variables with which processes cannot connect, before any waits.

    Raises:
        LaunchError: With the variable, its value and what would be right.
    """
    if "WORLD_SIZE" not in os.environ:
        for name in ("RANK", "LOCAL_RANK"):
            if os.environ.get(name, "0") != "0":
                raise _refused(name, "needs WORLD_SIZE beside it")
        return
    number = _checked("WORLD_SIZE", 1, 10**6)
    _checked("LOCAL_WORLD_SIZE", 1, number, needed=False)
    _checked("RANK", 0, number - 1, needed=number > 1)
    local = _number("LOCAL_WORLD_SIZE", number)
    _checked("LOCAL_RANK", 0, local - 1, needed=False)
    if number > 1:
        host, port = os.environ.get("MASTER_ADDR"), _checked("MASTER_PORT", 1, 65535)
        try:
            found = host and socket.getaddrinfo(host, port)
        except (OSError, UnicodeError):
            found = None
        if not found:
            raise _refused("MASTER_ADDR", "must be the host of the first process")


def _checked(name: str, least: int, most: int, needed: bool = True) -> int:
    """A variable's value, between two bounds."""
    value = _number(name, -1)
    if (needed or name in os.environ) and not least <= value <= most:
        raise _refused(name, f"must be a whole number from {least} to {most}")
    return value


def _refused(name: str, what: str) -> LaunchError:
    found = os.environ.get(name)
    words = "is not set" if found is None else f"is {found!r}"
    return LaunchError(f"the environment variable {name} {words}; it {what} (torchrun sets it).")
