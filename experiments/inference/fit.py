"""The training loop, written once."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyro
import torch
from torch import Tensor

from experiments.data import Data
from experiments.data.streams import rows_of
from experiments.inference.checks.index_reads import note_training_data
from experiments.inference.checks.observations import check_observations
from experiments.inference.checks.pair_check import check_indexed
from experiments.inference.optim import Schedule, cosine
from experiments.inference.optim.svi_argument import check_present, rate_of
from experiments.inference.parallel import gathered, own_rows
from experiments.inference.svi import SVI
from ppl_models.batch import Batch


class Position(NamedTuple):
    """The position of training between two steps, from which ``fit`` continues.

    ``epoch`` epochs are complete; ``losses``, ``seconds`` and ``skipped`` describe the steps of
    the next one so far. ``best`` is the smallest loss of an epoch, reached in ``best_epoch``.
    """

    epoch: int = 0
    losses: tuple[float, ...] = ()
    seconds: float = 0.0
    skipped: int = 0
    best: float = float("inf")
    best_epoch: int = 0


class Progress(NamedTuple):
    """The state of training after an epoch, or inside a paused one.

    ``epoch`` counts from 1, ``steps`` is the number of all steps so far, ``lr`` the last rate.
    ``loss`` is the mean over the epoch's rows [nats per data point], ``losses`` has that of every
    step, ``seconds`` is the time that the epoch took. ``skipped`` is the number of steps that a
    guard refused: their losses are not finite, and ``loss`` leaves their rows out.
    """

    epoch: int
    steps: int
    loss: float
    losses: list[float]
    lr: float
    seconds: float
    skipped: int = 0
    position: Position = Position()

    @property
    def complete(self) -> bool:
        """Whether this is the end of an epoch."""
        return not self.position.losses


def fit(
    svi: SVI,
    data: Data | Any,
    epochs: int = 20,
    batch_size: int = 500,
    schedule: Schedule | None = None,
    seed: int = 0,
    patience: int | None = None,
    start: Position | None = None,
    anneal: Callable[[float], None] | None = None,
    minutes: float | None = None,
    spent: float = 0.0,
    pause: Callable[[], bool] | None = None,
) -> Iterator[Progress]:
    """Train a pair, an epoch at a time.

    This is a generator: training proceeds only while its values are read, as in a ``for`` loop.

    Args:
        svi: model, guide, optimiser and objective.
        data: a data set, whatever ``as_data`` takes, or a ``DataLoader``.
        epochs: passes over the data.
        batch_size: B; the last batch of an epoch may be smaller. A ``DataLoader`` has its own.
        schedule: from progress in [0, 1) to a factor on every learning rate; a cosine by default.
            A rate set between epochs, as by ``ReduceLROnPlateau`` (best with ``constant()``),
            becomes the new initial rate. Optimizers with another scheduler of torch keep their
            own rates.
        seed: fixes the order of the data, together with the epoch. A ``DataLoader`` has its own.
        patience: number of epochs without a better loss after which training stops.
        start: position of an earlier ``fit``, when training is resumed.
        anneal: called with the progress before every step, for example to set a handler's beta.
        minutes: train for this time instead of ``epochs``; the last epoch is cut short.
        spent: minutes already used, when a run is resumed.
        pause: called after every step; tells whether to yield inside the epoch.

    Yields:
        ``Progress`` after each epoch and at every pause; nothing if no parameter is trainable or
        no time is left.

    Raises:
        ValueError: If ``epochs`` or ``batch_size`` is below 1; if the model or the guide reads the
            positions of rows and a loader yields none; if the pair does not pass its checks.
        UsageError: If the data do not fit the model, or a loader has no length or batch_size.
        Diverged: If the guard of ``svi`` refuses too many steps in a row.
    """
    if epochs < 1 or batch_size < 1:
        raise ValueError(f"epochs={epochs} and batch_size={batch_size} must be at least 1.")
    if not svi.trains or (minutes is not None and spent >= minutes):
        return
    check_present(svi.parameters, svi.own, svi.model, svi.guide)
    at = start or Position()
    rows = rows_of(data, svi.model)
    if isinstance(rows, Data):
        check_observations(svi.model, rows)
    batch_size = getattr(rows, "batch_size", batch_size)
    clock = Clock(epochs, -(-len(rows) // batch_size), minutes, spent)
    training = Training(svi, rows, batch_size, schedule or cosine(), seed, anneal, clock)
    try:
        while clock.progress(at.epoch, 0) < 1:
            if patience is not None and at.epoch - at.best_epoch > patience:
                return
            for progress in training.epoch(at, pause):
                note_training_data(svi.model, svi.guide, rows)
                yield progress
            at = progress.position
    finally:
        for group, rate in training.rates:  # rates that are set before the next call count
            group["lr"] = rate
            del group["initial_lr"]
            group.pop("fit_lr", None)


@dataclass
class Training:
    """Runs epochs, each from its present position."""

    svi: SVI
    rows: Any
    batch_size: int
    schedule: Schedule
    seed: int
    anneal: Callable[[float], None] | None
    clock: "Clock"

    @property
    def rates(self) -> list[tuple[dict[str, Any], float]]:
        """Groups of parameters (loading a state replaces them) and their initial rates.

        A rate set since the last step becomes the new initial rate.
        """
        groups = [
            group
            for optimizer in self.svi.optimizers
            if not getattr(optimizer, "scheduled", False)
            and not hasattr(optimizer.step, "_wrapped_by_lr_sched")  # of torch's schedulers
            for group in optimizer.param_groups
            if "lr" in group and group.get("lrd", 1.0) == 1.0
        ]
        for group in groups:
            if "initial_lr" not in group or group["lr"] != group.get("fit_lr", group["lr"]):
                group["initial_lr"] = group["lr"]
        return [(group, group["initial_lr"]) for group in groups]

    def epoch(self, at: Position, pause: Callable[[], bool] | None) -> Iterator[Progress]:
        """The rest of the epoch that ``at`` lies in: ``Progress`` at pauses and at its end."""
        began = time.perf_counter() - at.seconds
        skipped = self._skipped() - at.skipped
        done, losses = len(at.losses), list[Tensor]()

        def now() -> Position:
            return at._replace(
                losses=(*at.losses, *(torch.stack(losses).tolist() if losses else ())),
                seconds=time.perf_counter() - began,
                skipped=self._skipped() - skipped,
            )

        batches = self.rows.minibatches(self.batch_size, self.seed, at.epoch, done)
        for step, rows in enumerate(batches, done):
            batch = own_rows(rows)
            progress = self.clock.progress(at.epoch, step)
            if batch is None or (progress >= 1 and step):
                break
            if not losses and not getattr(self.rows, "indexed", True):
                check_indexed(self.svi.model, self.svi.guide, batch)
            losses.append(self._step(batch, min(progress, 1.0), first=at.epoch + step == 0))
            if pause is not None and pause():
                paused = now()
                yield self._progress(paused, paused)
        whole = now()
        yield self._progress(whole, self._next(whole))

    def _step(self, batch: Batch, progress: float, first: bool) -> Tensor:
        rates = self.rates
        for group, rate in rates:
            group["lr"] = group["fit_lr"] = rate * self.schedule(progress)
        if self.anneal is not None:
            self.anneal(progress)
            for group, _ in rates:
                group["fit_lr"] = group["lr"]  # set for this step alone
        # The first step is validated; the rest run without Pyro's checks of every site.
        with pyro.validation_enabled(pyro.infer.util.is_validation_enabled() and first):
            return self.svi.step(batch)

    def _skipped(self) -> int:
        return self.svi.guard.skipped if self.svi.guard else 0

    def _loss(self, at: Position) -> float:
        """The mean over the epoch's rows so far, without those of steps that a guard refused."""
        losses = torch.tensor(at.losses, dtype=torch.float64)
        before = self.batch_size * torch.arange(len(losses))
        rows = (len(self.rows) - before).clamp(max=self.batch_size).to(losses)
        taken = losses.isfinite() if self.svi.guard else slice(None)
        return (losses[taken] @ rows[taken] / rows[taken].sum()).item()

    def _next(self, at: Position) -> Position:
        """The beginning of the next epoch."""
        loss, best, best_epoch = self._loss(at), at.best, at.best_epoch
        if loss < best:
            best, best_epoch = loss, at.epoch
        return Position(at.epoch + 1, best=best, best_epoch=best_epoch)

    def _progress(self, at: Position, position: Position) -> Progress:
        steps = at.epoch * self.clock.per_epoch + len(at.losses)
        loss, losses, rate = self._loss(at), list(at.losses), rate_of(self.svi.optimizers)
        return Progress(at.epoch + 1, steps, loss, losses, rate, at.seconds, at.skipped, position)


class Clock:
    """The progress of training, measured by epochs or by time."""

    def __init__(self, epochs: int, per_epoch: int, minutes: float | None, spent: float) -> None:
        self.number, self.per_epoch, self.minutes = epochs, per_epoch, minutes
        self.opened = time.perf_counter() - 60 * spent

    def progress(self, epoch: int, step: int) -> float:
        """Fraction of training done, equal in all processes; with ``minutes`` it may exceed 1."""
        if self.minutes is None:
            return (epoch + step / self.per_epoch) / self.number
        passed = (time.perf_counter() - self.opened) / (60 * self.minutes)
        return gathered(passed)[0]  # the main process's
