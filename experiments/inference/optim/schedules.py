"""Schedules of the learning rate: progress in [0, 1) to a factor."""

import math
from collections.abc import Callable

Schedule = Callable[[float], float]
"""Progress in [0, 1) -> factor on the learning rate."""


def constant(warmup: float = 0.0) -> Schedule:
    """One, after a linear warm-up over the given fraction of training."""
    return lambda progress: min(1.0, progress / warmup) if warmup > 0 else 1.0


def cosine(warmup: float = 0.0) -> Schedule:
    """Half a cosine down to zero, after a linear warm-up over the given fraction of training."""

    def factor(progress: float) -> float:
        if progress < warmup:
            return progress / warmup
        return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))

    return factor


SCHEDULES: dict[str, Callable[[float], Schedule]] = {"constant": constant, "cosine": cosine}
