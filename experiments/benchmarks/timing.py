"""Wall times of several implementations, which take turns so that machine load affects all
alike. Some run in a separate process, without this project's settings."""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import torch

VISIT = 0.25
"""Minimum duration of a visit [s], long enough for warm caches."""

Ways = dict[str, Callable[[], Any]]


class Timing(NamedTuple):
    """Time of one call [s]: the median over rounds, and the quartiles."""

    median: float
    lower: float
    upper: float

    @classmethod
    def of(cls, seconds: list[float]) -> "Timing":
        """The summary of rounds."""
        if len(seconds) == 1:
            return cls(*seconds, *seconds, *seconds)
        lower, median, upper = statistics.quantiles(seconds, n=4, method="inclusive")
        return cls(median, lower, upper)

    def row(self, reference: float) -> dict[str, Any]:
        """The ratio to a reference first, then milliseconds."""
        return {
            "ratio": self.median / reference,
            "median ms": 1e3 * self.median,
            "quartiles ms": f"{1e3 * self.lower:.3g} to {1e3 * self.upper:.3g}",
        }


def in_turns(ways: Ways, rounds: int, warmup: int = 5) -> dict[str, Timing]:
    """Visit every way once per round, after ``warmup`` calls that are not timed."""
    calls = {}
    for name, way in ways.items():
        for _ in range(warmup):  # the first one may compile
            way()
        calls[name] = max(1, round(VISIT / seconds_of_calls(way)))
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            taken[name].append(seconds_of_calls(way, calls[name]) / calls[name])
    return {name: Timing.of(seconds) for name, seconds in taken.items()}


def seconds_of_calls(way: Callable[[], Any], calls: int = 1) -> float:
    """Wall time of several calls, the work of a GPU included [s]."""
    if isinstance(way, Elsewhere):
        return way.seconds(calls)
    _wait()
    began = time.perf_counter()
    for _ in range(calls):
        way()
    _wait()
    return time.perf_counter() - began


def _wait() -> None:
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def matrix_peak(device: torch.device | str) -> float:
    """The fastest of two seconds of products of square float32 matrices [FLOP/s]."""
    a, b = torch.randn(2, 2048, 2048, device=device)
    fastest, until = float("inf"), time.perf_counter() + 2
    while time.perf_counter() < until:
        fastest = min(fastest, seconds_of_calls(lambda: torch.mm(a, b)))
    return 2 * 2048**3 / fastest


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
    theirs.close()  # an error in the other process then ends the wait for it
    try:
        yield {name: Elsewhere(name, ours) for name in ours.recv()}
    finally:
        with suppress(BrokenPipeError):
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
        connection.send(seconds_of_calls(ways[name], calls))
