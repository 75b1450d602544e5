"""The training loop, written once."""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pyro
import torch
from torch import Tensor

from experiments.data import Data, as_data
from experiments.inference.distributed import agreed, share_randomness
from experiments.inference.optim import Schedule, cosine
from experiments.inference.svi import SVI

__all__ = ["Progress", "fit"]


class Progress(NamedTuple):
    """Where training stands after an epoch.

    ``loss`` is the mean over the epoch [nats per data point], ``losses`` every step's,
    ``seconds`` this epoch's wall time, ``skipped`` the steps that a guard did not let pass; where
    there is one, losses that are not finite are not in the mean.
    """

    epoch: int
    steps: int
    loss: float
    losses: list[float]
    lr: float
    seconds: float
    skipped: int = 0


def fit(
    svi: SVI,
    data: Data | Any,
    epochs: int = 20,
    batch_size: int = 500,
    schedule: Schedule | None = None,
    seed: int = 0,
    patience: int | None = None,
    start: int = 0,
    anneal: Callable[[float], None] | None = None,
    minutes: float | None = None,
    spent: float = 0.0,
) -> Iterator[Progress]:
    """Train a pair, an epoch at a time.

    Args:
        svi: model, guide, optimiser and objective.
        data: a data set, or an array ``[N, ...]``.
        epochs: passes over the data.
        batch_size: B; the last batch of an epoch may be smaller.
        schedule: progress in [0, 1) to a factor on every learning rate; a cosine by default.
        seed: fixes the order of the data, together with the epoch.
        patience: stop when the epoch's loss has not improved for so many epochs.
        start: epochs already done, when a run is resumed.
        anneal: called with the progress before every step, to set a handler's beta, say.
        minutes: train for so long instead: progress is the share of that time, and ``epochs`` is
            no limit. The last epoch is cut short.
        spent: minutes already used, when a run is resumed.

    Yields:
        ``Progress`` after each epoch. Nothing is yielded if the pair has nothing to train.

    Raises:
        ValueError: If ``epochs`` or ``batch_size`` is below 1.
    """
    if epochs < 1 or batch_size < 1:
        raise ValueError(f"epochs={epochs} and batch_size={batch_size} must be at least 1.")
    if not svi.trains or (minutes is not None and spent >= minutes):
        return
    rows = as_data(data).like(svi.model)
    schedule = schedule or cosine()
    rates = [
        (group, group.setdefault("initial_lr", group["lr"]))
        for optimizer in svi.optimizers
        for group in optimizer.param_groups
    ]
    per_epoch = -(-len(rows) // batch_size)
    clock = Clock(epochs, per_epoch, minutes, spent)
    best, best_epoch = float("inf"), start
    for epoch in clock.epochs(start):
        began = time.perf_counter()
        losses: list[Tensor] = []
        skipped = svi.guard.skipped if svi.guard else 0
        for step, batch in enumerate(rows.minibatches(batch_size, seed, epoch)):
            progress = clock.progress(epoch, step)
            if progress >= 1 and losses:
                break
            for group, rate in rates:
                group["lr"] = rate * schedule(min(progress, 1.0))
            if anneal is not None:
                anneal(min(progress, 1.0))
            # The first step is validated; the rest run without Pyro's checks of every site.
            validate = pyro.infer.util.is_validation_enabled() and epoch + step == 0
            with pyro.validation_enabled(validate):
                losses.append(svi.step(batch))
        values = torch.stack(losses)
        passed = values[values.isfinite()] if svi.guard else values
        loss, seconds = passed.double().mean().item(), time.perf_counter() - began
        steps, rate = epoch * per_epoch + len(losses), float(rates[0][0]["lr"])
        skipped = svi.guard.skipped - skipped if svi.guard else 0
        yield Progress(epoch + 1, steps, loss, values.tolist(), rate, seconds, skipped)
        if loss < best:
            best, best_epoch = loss, epoch
        elif patience is not None and epoch - best_epoch >= patience:
            return


class Clock:
    """How far training has come: by epochs, or by the time it has taken.

    Args:
        epochs: passes over the data.
        per_epoch: steps of one.
        minutes: train for so long instead.
        spent: minutes used before.
    """

    def __init__(self, epochs: int, per_epoch: int, minutes: float | None, spent: float) -> None:
        self.number, self.per_epoch, self.minutes = epochs, per_epoch, minutes
        self.opened = time.perf_counter() - 60 * spent

    def progress(self, epoch: int, step: int) -> float:
        """The share of training that is done; by time it may pass one."""
        if self.minutes is None:
            return (epoch + step / self.per_epoch) / self.number
        return agreed((time.perf_counter() - self.opened) / (60 * self.minutes))

    def epochs(self, start: int) -> Iterator[int]:
        """Epochs to come, until their number or the time is up; processes begin each as one."""
        for epoch in itertools.count(start):
            if self.progress(epoch, 0) >= 1:
                return
            share_randomness()
            yield epoch
