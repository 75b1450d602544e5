"""The processes of one command under torchrun: how they connect and end.

The main process prints and writes; the others take part in training and end with it.
"""

import atexit
import contextlib
import os
import re
import socket
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as processes

from experiments.errors import UsageError
from experiments.inference.parallel import gathered, is_main, world_size
from experiments.options.common import DataOptions, FitOptions


def join_group(config: Any) -> None:
    """Connect to the other processes, if a launcher has started any.

    Commands for one process are refused before that, so that no process waits for another.
    """
    number = started()
    if number == 1:
        return
    if not (isinstance(config, FitOptions) and isinstance(config, DataOptions)):
        takers = "ppca, nonlinear, vae, nvae and train take several"
        require_one_process(f"this command runs ({takers})", number)
    elif getattr(config, "pretrained", None) or getattr(config, "list", False):
        require_one_process("--pretrained and --list run", number)
    elif config.batch_size % number:
        raise UsageError(
            f"--batch-size {config.batch_size} is the total over all processes: it "
            f"must be a multiple of {number}."
        )
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:  # others may wait this long, for example for a download by the main process
        processes.init_process_group(backend, timeout=timedelta(hours=2))
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"the processes could not connect: {error}") from error


def started() -> int:
    """The number of processes that a launcher has started, if its variables are right."""
    if "WORLD_SIZE" not in os.environ:
        for name in ("RANK", "LOCAL_RANK"):
            if os.environ.get(name, "0") != "0":
                raise _refused(name, "needs WORLD_SIZE beside it")
        return 1
    number = _variable("WORLD_SIZE", 1, 10**6)
    local = _variable("LOCAL_WORLD_SIZE", 1, number, default=str(number))
    _variable("RANK", 0, number - 1, default="" if number > 1 else "0")
    _variable("LOCAL_RANK", 0, local - 1, default="0")
    if number > 1:
        port = _variable("MASTER_PORT", 1, 65535)
        try:
            socket.getaddrinfo(os.environ.get("MASTER_ADDR") or ".", port)
        except (OSError, UnicodeError):
            raise _refused("MASTER_ADDR", "must be the host of the first process") from None
    return number


def _variable(name: str, least: int, most: int, default: str = "") -> int:
    """A variable's value, between two bounds."""
    text = os.environ.get(name, default)
    if re.fullmatch("[0-9]{1,9}", text) and least <= int(text) <= most:
        return int(text)
    raise _refused(name, f"must be a whole number from {least} to {most}")


def _refused(name: str, what: str) -> UsageError:
    found = os.environ.get(name)
    words = "is not set" if found is None else f"is {found!r}"
    return UsageError(f"the environment variable {name} {words}; it {what} (torchrun sets it).")


def require_one_process(what: str, number: int | None = None) -> None:
    """Refuse several processes: ``number``, or those that have connected."""
    number = number or world_size()
    if number > 1:
        raise UsageError(f"{what} as one process, not as {number}.")


@contextlib.contextmanager
def main_process_first() -> Iterator[None]:
    """The main process runs the block before the others, so that its downloads exist."""
    if not is_main():
        gathered(None)
    yield
    if is_main():
        gathered(None)


def leave_group() -> None:
    """After training, the main process continues and the others end."""
    if world_size() == 1:
        return
    gathered(None)
    if not is_main():
        atexit.register(processes.destroy_process_group)  # until then it is not the main process
        sys.exit(0)
    processes.destroy_process_group()
