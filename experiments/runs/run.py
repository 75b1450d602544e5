"""A run: its directory, its log, and what it leaves behind."""

import dataclasses
import json
import random
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from experiments.data import Data
from experiments.data_sets import load_as
from experiments.inference.data_parallel import data_parallel
from experiments.inference.fit import Progress, fit
from experiments.inference.frozen import fit_rows
from experiments.inference.optim import SCHEDULES, Schedule
from experiments.inference.svi import SVI, Pair
from experiments.runs.checkpoint import (
    FORMAT,
    check_same,
    load_weights,
    restore,
    save_state,
    save_weights,
)
from experiments.runs.environment import peak_memory, pick_device, plain, versions
from experiments.runs.errors import TrainingError
from experiments.runs.files import append, read_records, write, write_json
from experiments.runs.place import Place
from experiments.runs.processes import (
    alone,
    check_rows,
    first_one_first,
    follows,
    join,
    number_of_processes,
    part,
)
from experiments.runs.report import report, write_events

__all__ = ["Run"]


class Run:
    """The run directory of a command: ``config.json``, ``metrics.jsonl``, ``metrics.json``,
    ``checkpoint/``, ``figures/``, ``tensorboard/`` and ``report.html``.

    Args:
        command: the command's name.
        config: its options.

    Raises:
        UsageError: If the directory holds another run, or cannot be written; when resuming, if
            there is nothing to continue or an option differs.
    """

    def __init__(self, command: str, config: Any) -> None:
        self.command, self.config = command, config
        self.options = plain(dataclasses.asdict(config))
        self.device = pick_device(config.device)
        join(self.device)
        self.resumed = getattr(config, "resume", False)
        self.saved: dict[str, Any] | None = None
        self.compiled = False
        self.place = Place(command, config.out, self.resumed)
        if self.resumed:
            self.saved = check_same(command, self.options, config)
        self.path = self.place.path
        self.began = time.perf_counter()
        self.train_seconds = self.compile_seconds = 0.0
        self.losses: list[float] = []
        self.records: list[dict[str, Any]] = []
        self.figures: list[Path] = []

    def __enter__(self) -> Self:
        seed = self.config.seed
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        return self

    def __exit__(self, *error: Any) -> None:
        if error[0] is not None:
            self.place.leave(begun=bool(self.records))

    def save_config(self, **more: Any) -> None:
        """Write ``config.json``: every option, versions, device, threads."""
        content = {
            "format": FORMAT,
            "command": self.command,
            "options": self.options,
            "versions": versions(),
            "device": str(self.device),
            "threads": torch.get_num_threads(),
            "compiled": self.compiled,
            "processes": number_of_processes(),
            **plain(more),
        }
        write_json(self.path / "config.json", content)

    def load_data(self, every_row: bool = False) -> tuple[Data, Data]:
        """The train and test split that the options ask for, on the run's device."""
        config = self.config
        chosen = None if every_row else config.rows
        with first_one_first():
            train, test = load_as(dataclasses.asdict(config), config.data_root, chosen)
        check_rows(len(train))
        self.say(
            f"{config.data}: {len(train)} train and {len(test)} test images of "
            f"{list(train.image_shape)}"
        )
        dtype = getattr(torch, config.dtype)
        parts = (part.to(self.device) for part in (train, test))
        return tuple(dataclasses.replace(part, dtype=dtype) for part in parts)  # type: ignore

    def say(self, line: str) -> None:
        if not follows():
            tqdm.write(line)

    def fit(
        self,
        svi: SVI,
        data: Data,
        anneal: Callable[[float], None] | None = None,
        schedule: Schedule | None = None,
    ) -> Iterator[Progress]:
        """``fit`` with this run's options: logged, checkpointed after every epoch, resumable."""
        config, pair = self.config, Pair(svi.model, svi.guide)
        if not svi.trains:
            alone("what has nothing to train runs")
            save_weights(self.path, pair)
            self.say("nothing to train: neither the model nor the guide has free parameters.")
            return
        if not any(p.requires_grad for p in svi.model.parameters()) and svi.local_optim:
            alone("rows under a frozen model are fitted")
            if self.resumed and (self.path / "metrics.json").exists():
                load_weights(self.path, pair)
                self.say("every row has had its steps already.")
                return
            self._fit_rows(svi, data)
            save_weights(self.path, pair)
            return
        start = self._restore(pair, svi) if self.resumed else 0
        data_parallel(svi)
        schedule = schedule or SCHEDULES[config.schedule](config.warmup)
        epochs = fit(
            svi, data, config.epochs, config.batch_size, schedule, config.seed, config.patience,
            start, anneal, config.minutes, self.train_seconds / 60,
        )  # fmt: skip
        total = config.epochs if config.minutes is None else None
        bar = tqdm(epochs, total=total, initial=start, unit="epoch",
                   disable=follows() or not sys.stderr.isatty())  # fmt: skip
        for progress in bar:
            self._log(progress, total, bar)
            self._log_compiler(svi)
            save_weights(self.path, svi.average.weights if svi.average else pair)
            save_state(self.path, svi, progress.epoch, self.losses)
            yield progress
        svi.parallel = None
        part()

    def _fit_rows(self, svi: SVI, data: Data) -> None:
        guide = svi.guide
        self.say(
            f"the model is frozen: every row takes {guide.local_steps} steps of its own "
            "(--guide.local-steps), no epochs."
        )
        began = time.perf_counter()
        losses = fit_rows(svi.model, guide, data, svi.objective)
        seconds = time.perf_counter() - began
        self._record(Progress(1, len(losses), losses[-1], losses, guide.local_lr, seconds))

    def _restore(self, pair: Pair, svi: SVI) -> int:
        start, self.losses = restore(self.path, pair, svi)
        log = self.path / "metrics.jsonl"
        self.records = read_records(log, start)
        self.train_seconds = sum(record["seconds"] for record in self.records)
        lines = "".join(f"{json.dumps(record)}\n" for record in self.records)
        write(log, lambda path: path.write_text(lines))
        self.say(f"continuing after epoch {start} of {self.config.epochs}")
        return start

    def _record(self, progress: Progress) -> None:
        if not np.isfinite(progress.loss):
            raise TrainingError(
                f"training diverged: the loss is {progress.loss} in epoch {progress.epoch}; "
                "a lower --lr or a warm-up may help."
            )
        self.losses += progress.losses
        self.train_seconds += progress.seconds
        record = {"epoch": progress.epoch, "steps": progress.steps, "loss": progress.loss,
                  "lr": progress.lr, "seconds": progress.seconds,
                  "skipped": progress.skipped}  # fmt: skip
        self.records.append(record)
        append(self.path / "metrics.jsonl", json.dumps(record))

    def _log(self, progress: Progress, epochs: int | None, bar: tqdm) -> None:
        self._record(progress)
        line = f"loss {progress.loss:.4f} nats per data point"
        if not bar.disable:
            bar.set_postfix_str(line)
        elif epochs is None:
            self.say(f"epoch {progress.epoch}: {line}, {self.train_seconds / 60:.1f} minutes")
        elif progress.epoch % max(1, epochs // 20) == 0 or progress.epoch == epochs:
            self.say(f"epoch {progress.epoch}/{epochs}: {line}, {progress.seconds:.2f} s")

    def _log_compiler(self, svi: SVI) -> None:
        if svi.compiled and svi.compiled.seconds > self.compile_seconds:
            self.compile_seconds = svi.compiled.seconds
            self.say(f"of which {self.compile_seconds:.1f} s were the compiler's, once")

    @property
    def seconds(self) -> dict[str, float]:
        return {"train": self.train_seconds, "compile": self.compile_seconds,
                "total": time.perf_counter() - self.began}  # fmt: skip

    def figure(self, name: str, figure: Figure) -> None:
        """Save a picture among the run's figures."""
        path = self.path / "figures" / f"{name}.png"
        self.figures.append(write(path, lambda file: figure.savefig(file, dpi=110, format="png")))

    def save_metrics(self, metrics: dict[str, Any]) -> None:
        """Write ``metrics.json`` with the time so far and the most memory."""
        metrics["seconds"], metrics["memory"] = self.seconds, peak_memory(self.device)
        write_json(self.path / "metrics.json", metrics)

    def finish(
        self, metrics: dict[str, Any], words: str, tables: Mapping[str, Sequence[dict[str, Any]]]
    ) -> dict[str, Any]:
        """Write ``metrics.json``, TensorBoard events and the report, and say where it is."""
        self.save_metrics(metrics)
        write_events(self.path, self.records, metrics)
        command = f"python -m experiments.{self.command.replace('-', '_')} " + shlex.join(
            sys.argv[1:] if sys.argv[1:2] != [self.command] else sys.argv[2:]
        )
        page = report(f"{self.command} · {self.path.name}", command, words, tables, self.figures)
        path = write(self.path / "report.html", lambda file: file.write_text(page))
        self.say(f"report: {path}")
        return metrics
