"""The processes of one command, as torchrun starts them: who they are, how they meet and part.

The first one prints and writes; the others compute their share of training and end with it.
Nothing here imports torch before it must.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from experiments.errors import UsageError
from experiments.options.common import DataOptions, FitOptions
from experiments.options.process.launched import (
    check_launch,
    is_main,
    local_position,
    number_of_processes,
)

__all__ = [
    "check_processes",
    "check_rows",
    "failed",
    "first_one_first",
    "is_main",
    "join_group",
    "leave_group",
    "local_position",
    "number_of_processes",
    "require_one_process",
]

_store: list[Any] = []
PATIENCE = timedelta(hours=2)
"""How long a process waits for the others: for the first one's download, say."""


def require_one_process(what: str) -> None:
    """Refuse several processes.

    Raises:
        UsageError: Saying what runs as one.
    """
    if number_of_processes() > 1:
        raise UsageError(f"{what} as one process, not as {number_of_processes()}.")


def check_processes(config: Any) -> None:
    """Refuse several processes where a command does not train, or its batches do not divide.

    Raises:
        UsageError: With the numbers.
    """
    if not (isinstance(config, FitOptions) and isinstance(config, DataOptions)):
        require_one_process(
            "this command runs (ppca, nonlinear, vae, nvae and train take several)"
        )
    else:
        if getattr(config, "pretrained", None) or getattr(config, "list", False):
            require_one_process("--pretrained and --list run")
        if config.batch_size % number_of_processes():
            raise UsageError(
                f"--batch-size {config.batch_size} is that of all processes together: "
                f"{number_of_processes()} do not divide it."
            )
    check_launch()


def check_rows(rows: int) -> None:
    """Refuse more processes than there are rows.

    Raises:
        UsageError: With both.
    """
    if number_of_processes() > rows:
        raise UsageError(f"{number_of_processes()} processes are more than the {rows} rows.")


def join_group(device: Any) -> None:
    """Meet the other processes; nothing where there are none.

    Raises:
        UsageError: If they cannot reach each other, or not from such a device.
    """
    if number_of_processes() == 1:
        return
    import torch
    import torch.distributed as processes

    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"several processes train on cpu or cuda, not on {device.type}.")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        store, rank, number = next(processes.rendezvous("env://"))
        _store[:] = [processes.PrefixStore("failures", store)]
        processes.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            store=store,
            rank=rank,
            world_size=number,
            timeout=PATIENCE,
        )
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"the processes did not meet: {error}") from error


@contextmanager
def first_one_first() -> Iterator[None]:
    """The first process does what is inside before the others: what it downloads is there."""
    if not is_main():
        _wait()
    yield
    if number_of_processes() > 1 and is_main():
        _wait()


def _wait() -> None:
    import torch
    import torch.distributed as processes

    processes.all_reduce(torch.zeros(()))


def leave_group() -> None:
    """After training: the first process goes on, the others end."""
    if number_of_processes() == 1:
        return
    import torch.distributed as processes

    _wait()
    processes.destroy_process_group()
    if not is_main():
        sys.exit(0)


def failed(line: str, code: int) -> int:
    """Say what went wrong, in one of the processes; the exit code of all."""
    said, code = _said_before(code)
    if not said:
        print(f"error: {line}", file=sys.stderr, flush=True)
    if _store and is_main() and "TORCHELASTIC_USE_AGENT_STORE" not in os.environ:
        _let_others_know()
    return code


def _let_others_know() -> None:
    """Without torchrun's own the first process keeps the store: it stays until all have asked."""
    import torch.distributed as processes

    if processes.is_initialized():
        processes.destroy_process_group()  # whoever waits for this process fails now
    until = time.monotonic() + 10
    while _store[0].add("count", 0) < number_of_processes() and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.2)  # the last one has counted, and reads the code


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Inside, nothing is printed: where a store is gone torch shows a stack of C++ calls."""
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def _said_before(code: int) -> tuple[bool, int]:
    """Whether another process has spoken, and the code that it ended with."""
    if not _store:  # they have not met: all fail alike
        return not is_main(), code
    (store,) = _store
    try:
        with _without_stderr():
            if store.add("count", 1) > 1:
                return True, int(store.get("code"))
            store.set("code", str(code))
    except RuntimeError:  # the process that kept the store is gone
        pass
    return False, code
