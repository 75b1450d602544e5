"""Implementations that are timed in a separate process, without this project's settings."""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import torch

Ways = dict[str, Callable[[], Any]]


class Elsewhere:
    """One way in the other process: it is called and timed there."""

    def __init__(self, name: str, connection: Connection) -> None:
        self.name, self.connection = name, connection

    def __call__(self) -> None:
        self.seconds(1)

    def seconds(self, calls: int) -> float:
        """Wall time of several calls, by the other process's clock [s]."""
        self.connection.send((self.name, calls))
        return self.connection.recv()


@contextmanager
def elsewhere(make: Callable[..., Ways], *arguments: Any) -> Iterator[Ways]:
    """What ``make(*arguments)`` gives in another process, which ends with the block.

    That process imports ``make`` and receives the arguments, tensors on the CPU. ``cli`` has glibc
    keep freed memory; the other process has the defaults of glibc, as everybody else does.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_serve, args=(theirs, torch.get_num_threads(), make, arguments), daemon=True
    )
    process.start()
    try:
        yield {name: Elsewhere(name, ours) for name in ours.recv()}
    finally:
        ours.send(None)
        process.join()


def _serve(
    connection: Connection, threads: int, make: Callable[..., Ways], arguments: Any
) -> None:
    torch.set_num_threads(threads)
    ways = make(*arguments)
    connection.send(list(ways))
    while (asked := connection.recv()) is not None:
        name, calls = asked
        began = time.perf_counter()
        for _ in range(calls):
            ways[name]()
        connection.send(time.perf_counter() - began)
