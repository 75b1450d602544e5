"""The training of a run: logged, checkpointed, continued, interrupted, rolled back."""

import json
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from tqdm import tqdm

from experiments.data import Data
from experiments.errors import TrainingError, UsageError
from experiments.inference.fit import Position, Progress, fit
from experiments.inference.guard import Diverged, Guard
from experiments.inference.optim import SCHEDULES, Schedule
from experiments.inference.parallel import any_of, gathered, own_noise, rank, start_together
from experiments.inference.svi import SVI, Pair
from experiments.options.common import checkpoint_interval
from experiments.runs.checkpoint import (
    WEIGHTS,
    checkpoints,
    fill,
    forget_checkpoints,
    packed,
    save_weights,
    unpacked,
    verified,
)
from experiments.runs.files import reading
from experiments.runs.processes import leave_group
from experiments.runs.random_state import put_random_state, random_state
from experiments.runs.run import Run
from experiments.runs.signals import Interrupted
from experiments.training.watch import Watch, check_end

STATE = "state.pt"
SLOWER = 0.5
"""Factor on the learning rate after a rollback."""


class Fitting:
    """Trains a pair with the options, log and checkpoints of a run."""

    def __init__(self, run: Run, svi: SVI, data: Data) -> None:
        self.run, self.svi, self.data = run, svi, data
        self.pair, self.watch = Pair(svi.model, svi.guide), Watch(run, svi, data)
        self.position = Position()
        self.saved: Position | None = None
        self.rollbacks = 0
        self.epochs, self.seconds = checkpoint_interval(run.config.checkpoint_every)
        self.saved_at = time.monotonic()

    def train(self, anneal: Callable[[float], None], schedule: Schedule | None) -> None:
        """Train from the present position to the end."""
        run = self.run
        if self.svi.guard is None:
            self.svi.guard = Guard()
        self.svi.guard.most_skipped = run.config.max_skipped
        if not self.restore():
            own_noise(run.config.seed, 0)
            self.save()
            run.renew()
        elif self.position.epoch < run.config.epochs or run.config.minutes is not None:
            of = f" of {run.config.epochs}" if run.config.minutes is None else ""
            step = f", step {len(self.position.losses)}" if self.position.losses else ""
            run.say(f"continuing after epoch {self.position.epoch}{of}{step}")
        start_together(self.svi)
        schedule = schedule or SCHEDULES[run.config.schedule](run.config.warmup)
        with run.signals.deferred():
            while True:
                try:
                    self._epochs(anneal, schedule)
                    check_end(self.svi.guard, -(-len(self.data) // run.config.batch_size))
                    self._keep()
                    break
                except Diverged as reason:
                    self._roll_back(reason)
                except ValueError:
                    if self.saved == Position() and not (run.resumed or run.lines):
                        forget_checkpoints(run.path)  # of what has not begun
                    raise
            self._end_if_told("after training")
        leave_group()

    def _epochs(self, anneal: Callable[[float], None], schedule: Schedule) -> None:
        run, config = self.run, self.run.config
        spent = (run.train_seconds + self.position.seconds) / 60
        progresses = fit(
            self.svi,
            self.data,
            config.epochs,
            config.batch_size,
            schedule,
            config.seed,
            config.patience,
            self.position,
            anneal,
            config.minutes,
            spent,
            self._pauses,
        )
        total = config.epochs if config.minutes is None else None
        quiet = rank() > 0 or not sys.stderr.isatty()
        with tqdm(total=total, initial=self.position.epoch, unit="epoch", disable=quiet) as bar:
            for progress in progresses:
                self.position = progress.position
                if progress.complete:
                    self.watch(progress, total, bar)
                if self._is_due(progress):
                    self.save()
                self._end_if_told(f"after step {progress.steps} (epoch {progress.epoch})")

    def _pauses(self) -> bool:
        """After every step: whether to write a checkpoint or to stop."""
        return any_of(self.run.signals.received is not None or self._time_is_up())

    def _time_is_up(self) -> bool:
        return self.seconds is not None and time.monotonic() - self.saved_at >= self.seconds

    def _is_due(self, progress: Progress) -> bool:
        if self.epochs is not None:
            return progress.complete and progress.epoch % self.epochs == 0
        if self.svi.guard and self.svi.guard.consecutive:
            return False  # a rollback would only come back to weights that fail
        return any_of(self._time_is_up())

    def _keep(self) -> None:
        if self.saved != self.position:
            self.save()

    def _end_if_told(self, where: str) -> None:
        """If a signal has been received, write a checkpoint and raise ``Interrupted``."""
        received = self.run.signals.received
        if any_of(received is not None):
            self._keep()
            raise Interrupted(received or signal.SIGTERM, f"{where}, which is kept")

    def save(self) -> None:
        """Write a checkpoint of weights and state."""
        svi, run = self.svi, self.run
        random = gathered(random_state())
        self.saved, self.saved_at = self.position, time.monotonic()  # in every process
        if rank():
            return
        state = {
            "svi": svi.state_dict(),
            "random": random,
            "position": tuple(self.position),
            "rollbacks": self.rollbacks,
            "guard": svi.guard.state_dict() if svi.guard else {},
            "losses": torch.tensor(run.losses, dtype=torch.float64),
            "records": f"[{','.join(run.lines)}]",
            "data": self.data.sha256,
        }
        module = svi.average.weights if svi.average else self.pair
        save_weights(run.path, module, run.config.keep, {STATE: packed(state)})

    def restore(self) -> bool:
        """Return to the newest complete checkpoint; whether there is one."""
        run, first = self.run, self.saved is None
        found = checkpoints(run.path) if run.resumed or self.saved else []
        if run.resumed and not found and (run.path / "metrics.jsonl").exists():
            raise UsageError(f"{run.path} has no checkpoint to continue from.")
        for path in reversed(found):
            try:
                weights, content = verified(path, WEIGHTS, STATE)
            except UsageError as error:
                if path is found[0]:
                    raise
                run.say(f"warning: {error} The previous checkpoint is used.")
                continue
            fill(self.pair, weights, path)
            state = unpacked(content, path / STATE)
            with reading(path / STATE):
                records, losses = self._put(state)
            run.continue_from(records, losses)
            if first:  # these seconds of earlier processes are part of the total
                run.began -= run.train_seconds + self.position.seconds
            return True
        return False

    def _put(self, state: dict[str, Any]) -> tuple[list[dict[str, Any]], list[float]]:
        """Restore the state of a checkpoint and the log up to it."""
        if state["data"] != self.data.sha256 and not self.run.data_changed:
            raise UsageError(f"{self.run.config.data} is not what {self.run.path} was trained on.")
        self.svi.load_state_dict(state["svi"])
        self.position = self.saved = Position(*state["position"])
        self._put_random_state(state["random"])
        self.rollbacks = state["rollbacks"]
        if self.svi.guard:
            self.svi.guard.load_state_dict(state["guard"])
        records = json.loads(state["records"])
        if [record["epoch"] for record in records] != [*range(1, self.position.epoch + 1)]:
            raise ValueError(f"the log is not that of {self.position.epoch} epochs")
        return records, state["losses"].tolist()

    def _put_random_state(self, saved: Any) -> None:
        """Restore the state of this process, or begin a new one if the world size differs."""
        states = saved if isinstance(saved, list) else [saved]
        if rank() < len(states):
            put_random_state(states[rank()])
        else:
            own_noise(self.run.config.seed, self.position.epoch)

    def _roll_back(self, reason: Diverged) -> None:
        """Return to the last checkpoint, and continue with a smaller learning rate."""
        done, most = self.rollbacks, self.run.config.max_rollbacks
        if done >= most:
            raise TrainingError(
                f"training diverged: {reason} {most} smaller learning rates did not help."
            )
        self.restore()
        if self.svi.guard:
            self.svi.guard.consecutive = 0
        for group in (g for optimizer in self.svi.optimizers for g in optimizer.param_groups):
            for name in ("initial_lr", "fit_lr", "lr"):
                group[name] = group.get(name, group["lr"])
                group[name] *= SLOWER ** (done + 1 - self.rollbacks)
        self.rollbacks = done + 1
        self.run.say(
            f"warning: {reason} Back to the checkpoint at epoch {self.position.epoch}, with "
            f"{SLOWER**self.rollbacks:g} of the learning rate."
        )
