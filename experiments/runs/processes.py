"""The processes of one command under torchrun: their ranks, how they connect and end.

The main process prints and writes; the others take part in training and end with it. Torch is
imported only when needed.
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
from experiments.options.process.launched import check_launch, is_main, number_of_processes

_store: list[Any] = []
PATIENCE = timedelta(hours=2)
"""Time that a process waits for the others, for example for a download by the main process."""
LAST_WORDS = 10.0
"""Seconds that the others have to read the error of the main process."""


def require_one_process(what: str) -> None:
    """Refuse several processes.

    Raises:
        UsageError: If there are several.
    """
    if number_of_processes() > 1:
        raise UsageError(f"{what} as one process, not as {number_of_processes()}.")


def check_processes(config: Any) -> None:
    """Refuse several processes if a command does not train, or they do not divide its batches.

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
                f"--batch-size {config.batch_size} is the total over all processes: it "
                f"must be a multiple of {number_of_processes()}."
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
    """Connect to the other processes, if there are any.

    Raises:
        UsageError: If they cannot connect, or not on this kind of device.
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
        raise UsageError(f"the processes could not connect: {error}") from error


@contextmanager
def first_one_first() -> Iterator[None]:
    """The main process runs the block before the others, so that its downloads exist."""
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
    """After training, the main process continues and the others end."""
    if number_of_processes() == 1:
        return
    import torch.distributed as processes

    _wait()
    processes.destroy_process_group()
    if not is_main():
        sys.exit(0)


def failed(line: str, code: int) -> int:
    """Print an error in one process only; return the exit code of all."""
    said, code = _said_before(code)
    if not said:
        print(f"error: {line}", file=sys.stderr, flush=True)
    if _store and is_main() and "TORCHELASTIC_USE_AGENT_STORE" not in os.environ:
        _let_others_know()
    return code


def _let_others_know() -> None:
    """Without torchrun's store, the main process serves it and waits until all have read it."""
    import torch.distributed as processes

    if processes.is_initialized():
        processes.destroy_process_group()  # processes that wait for this one fail now
    until = time.monotonic() + LAST_WORDS
    while _store[0].add("count", 0) < number_of_processes() and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.2)  # the last process has arrived and reads the code


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Inside, stderr is hidden: torch prints a C++ stack if the store has disappeared."""
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def _said_before(code: int) -> tuple[bool, int]:
    """Whether another process has printed the error, and its exit code."""
    if not _store:  # not connected yet: all fail with the same error
        return not is_main(), code
    (store,) = _store
    try:
        with _without_stderr():
            if store.add("count", 1) > 1:
                return True, int(store.get("code"))
            store.set("code", str(code))
    except RuntimeError:  # the process that served the store has ended
        pass
    return False, code
