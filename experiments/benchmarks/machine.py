"""The peak rate of a machine, measured by one large matrix product."""

import time

import torch

from experiments.benchmarks.timing import seconds_of_calls

__all__ = ["matrix_peak"]


def matrix_peak(
    device: torch.device | str = "cpu", size: int = 2048, seconds: float = 2.0
) -> float:
    """The fastest of many products of square float32 matrices [FLOP/s]."""
    a, b = torch.randn(2, size, size, device=device)
    fastest, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        fastest = min(fastest, seconds_of_calls(lambda: torch.mm(a, b)))
    return 2 * size**3 / fastest
