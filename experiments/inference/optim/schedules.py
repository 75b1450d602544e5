"""Schedules of the learning rate and of the KL's factor, those published with NVAE among them."""

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


def cyclical(progress: float, beta: float = 1.0, rise: float = 0.5, cycles: int = 1) -> float:
    """The factor on the KL when a fraction ``progress`` of training is done.

    Args:
        progress: fraction of training that is done, in [0, 1].
        beta: the largest value of the factor.
        rise: fraction of each cycle in which the factor rises linearly from zero.
        cycles: number of cycles.

    References:
        Higgins et al. (2017), beta; Bowman et al. (2016), a rising factor; Fu et al. (2019),
        cycles of it.
    """
    within = min(progress, 1 - 1e-9) * cycles % 1
    return beta * min(1.0, within / rise) if rise else beta


def kl_coefficient(
    progress: float, constant: float = 0.0001, anneal: float = 0.3, least: float = 0.0001
) -> float:
    """The factor on the KL when a fraction ``progress`` of training is done.

    Args:
        progress: fraction of training that is done, in [0, 1].
        constant: fraction of training before the warm-up.
        anneal: fraction of training that the warm-up takes; 0 for no warm-up.
        least: the smallest value of the factor.
    """
    if anneal == 0:
        return 1.0
    return max(min((progress - constant) / anneal, 1.0), least)


def regularisation_weight(coefficient: float, initial: float, final: float) -> float:
    """The weight of the penalties, annealed with the KL coefficient, on a logarithmic scale."""
    return math.exp((1 - coefficient) * math.log(initial) + coefficient * math.log(final))


def learning_rate(
    epoch: int,
    step: int,
    steps: int,
    epochs: int,
    warmup: int = 5,
    lr: float = 0.01,
    least: float = 1e-4,
) -> float:
    """The rate of a step: linear warm-up from zero, then a cosine that moves once per epoch.

    The warm-up ends one step short of ``lr``, and the cosine starts from where it ends, as in the
    published implementation.

    Args:
        epoch: number of the epoch, from 0.
        step: number of the step within the epoch, from 0.
        steps: number of steps per epoch.
        epochs: number of epochs in all.
        warmup: number of epochs of the warm-up.
        lr: the rate that the warm-up approaches.
        least: the rate of the last epoch.
    """
    if epoch < warmup:
        return lr * (epoch * steps + step) / (warmup * steps)
    peak = lr * (warmup * steps - 1) / (warmup * steps) if warmup else lr
    angle = math.pi * (epoch - warmup) / max(1, epochs - warmup - 1)
    return least + (peak - least) * (1 + math.cos(angle)) / 2


def published_rate(steps: int, epochs: int, warmup: int, lr: float, least: float) -> Schedule:
    """``learning_rate`` as a schedule: progress in [0, 1] to a factor on ``lr``."""

    def factor(progress: float) -> float:
        epoch, step = divmod(round(progress * epochs * steps), steps)
        return learning_rate(epoch, step, steps, epochs, warmup, lr, least) / lr

    return factor
