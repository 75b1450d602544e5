"""A run: its directory, its log, and what it leaves behind."""

import dataclasses
import json
import random
import shlex
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from experiments.data import Data
from experiments.data_sets import load_as
from experiments.inference.fit import Progress
from experiments.inference.optim import Schedule
from experiments.inference.svi import SVI, Pair
from experiments.runs.checkpoint import checkpoints, save_weights
from experiments.runs.environment import determinism, peak_memory, pick_device, plain, versions
from experiments.runs.faults import found_before, raise_fault
from experiments.runs.files import FORMAT, append, write, write_json, write_text
from experiments.runs.fitting import Fitting
from experiments.runs.fitting_rows import fit_frozen
from experiments.runs.formulas import formulas
from experiments.runs.lock import Lock
from experiments.runs.place import Place
from experiments.runs.processes import (
    alone,
    check_rows,
    first_one_first,
    follows,
    join,
    number_of_processes,
)
from experiments.runs.report import report, write_events
from experiments.runs.resuming import command_line, read_saved, without_results
from experiments.runs.signals import Interrupted, Signals

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
        self.saved: dict[str, Any] | None = None
        self.content: dict[str, Any] = {}
        self.compiled = self.begun = False
        resume = getattr(config, "resume", False)
        self.place = Place(command, config.out, resume)
        self.path = self.place.path
        if resume:
            self.saved = read_saved(command, self.options, config)
        self.resumed = self.saved is not None
        self.signals, self._held = Signals(), ExitStack()
        self._held.enter_context(Lock(self.path))
        self.began = time.perf_counter()
        self.train_seconds = self.compile_seconds = 0.0
        # a long run's log, as small as it can be: it stays in memory, and in every checkpoint
        self.losses, self.lines = array("d"), list[str]()
        self.figures: list[Path] = []

    def __enter__(self) -> Self:
        self._held.enter_context(self.signals)
        self._held.enter_context(determinism(getattr(self.config, "deterministic", False)))
        seed = self.config.seed
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception):
            self.place.leave(begun=bool(self.lines or checkpoints(self.path)))
        self._held.close()
        if self.signals.received and isinstance(error, (Interrupted, Exception)):
            # whatever a signal did to an import, say, in whose middle it came
            stop = error if isinstance(error, Interrupted) else Interrupted(self.signals.received)
            stop.directory = self.path
            raise stop
        if isinstance(error, Exception) and self.begun:
            raise_fault(error, self.path)

    def save_config(self, **more: Any) -> None:
        """Write ``config.json``: every option, versions, device, threads.

        That of a resumed run is replaced when it has found its checkpoint.
        """
        self.content = {
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
        if not self.resumed:
            write_json(self.path / "config.json", self.content)
        self.begun = True

    def load_data(self, every_row: bool = False) -> tuple[Data, Data]:
        """The train and test split that the options ask for, on the run's device."""
        config = self.config
        chosen = None if every_row else config.rows
        with first_one_first(), found_before(self.resumed):
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
        """``fit`` with this run's options: logged, kept as it goes on, and continued."""
        if not svi.trains:
            alone("what has nothing to train runs")
            save_weights(self.path, Pair(svi.model, svi.guide))
            self.say("nothing to train: neither the model nor the guide has free parameters.")
        elif not any(p.requires_grad for p in svi.model.parameters()) and svi.local_optim:
            alone("rows under a frozen model are fitted")
            fit_frozen(self, svi, data)
        else:
            yield from Fitting(self, svi, data)(anneal, schedule)

    @property
    def records(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``."""
        return [json.loads(line) for line in self.lines]

    def continue_from(self, records: list[dict[str, Any]], losses: list[float]) -> None:
        """Have logged this much and no more, and not be over."""
        write_json(self.path / "config.json", self.content)
        without_results(self.path)
        self.lines, self.losses = [json.dumps(record) for record in records], array("d", losses)
        self.train_seconds = sum(record["seconds"] for record in records)
        text = "".join(line + "\n" for line in self.lines)
        write_text(self.path / "metrics.jsonl", text)

    def record(self, progress: Progress) -> None:
        """Log an epoch."""
        self.losses.extend(progress.losses)
        self.train_seconds += progress.seconds
        loss = progress.loss if np.isfinite(progress.loss) else None
        record = {"epoch": progress.epoch, "steps": progress.steps, "loss": loss,
                  "lr": progress.lr, "seconds": progress.seconds,
                  "skipped": progress.skipped}  # fmt: skip
        self.lines.append(json.dumps(record))
        append(self.path / "metrics.jsonl", self.lines[-1])

    def log(self, progress: Progress, epochs: int | None, bar: tqdm) -> None:
        """Log an epoch and show it."""
        self.record(progress)
        bar.update()
        line = f"loss {progress.loss:.4f} nats per data point"
        if not bar.disable:
            bar.set_postfix_str(line)
        elif epochs is None:
            self.say(f"epoch {progress.epoch}: {line}, {self.train_seconds / 60:.1f} minutes")
        elif progress.epoch % max(1, epochs // 20) == 0 or progress.epoch == epochs:
            self.say(f"epoch {progress.epoch}/{epochs}: {line}, {progress.seconds:.2f} s")

    def log_compiler(self, svi: SVI) -> None:
        """Say what compiling took, once."""
        if svi.compiled and svi.compiled.seconds > self.compile_seconds:
            self.compile_seconds = svi.compiled.seconds
            self.say(f"of which {self.compile_seconds:.1f} s were the compiler's, once")

    @property
    def seconds(self) -> dict[str, float]:
        return {"train": self.train_seconds, "compile": self.compile_seconds,
                "total": time.perf_counter() - self.began}  # fmt: skip

    def training_row(self, metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
        """How training went, as a table of one line."""
        last = json.loads(self.lines[-1])
        return [{
            "epochs": last["epoch"], "steps": last["steps"],
            "steps skipped": sum(record["skipped"] for record in self.records),
            "last loss [nats per data point]": last["loss"], "seconds": self.train_seconds,
            "of which compiling": self.compile_seconds,
            "parameters": metrics.get("parameters"), "device": str(self.device),
        }]  # fmt: skip

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
        command = shlex.join(command_line(self.command))
        title = f"{self.command} · {self.path.name}"
        trained = {"Training": self.training_row(metrics)} if self.lines else {}
        shown = {**tables, **trained}
        page = report(title, command, words, shown, self.figures, formulas(metrics))
        path = write_text(self.path / "report.html", page)
        self.say(f"report: {path}")
        return metrics
