"""A run: its directory, its log and its results."""

import dataclasses
import errno
import json
import random
import re
import time
from array import array
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from experiments.errors import TrainingError, is_out_of_memory, one_line
from experiments.inference.fit import Progress
from experiments.inference.parallel import gathered, is_main, world_size
from experiments.runs.checkpoint import checkpoints
from experiments.runs.directory import RunDirectory
from experiments.runs.environment import determinism, peak_memory, pick_device, plain, versions
from experiments.runs.files import FORMAT, append, make_directories, write, write_json, write_text
from experiments.runs.lock import Lock
from experiments.runs.metrics import Metrics
from experiments.runs.resuming import read_saved, with_history, without_results
from experiments.runs.signals import Interrupted, Signals

RECORD = "data.json"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a full disk."""
LOST = re.compile("gloo|nccl|connection (closed|reset|refused)|broken pipe", re.IGNORECASE)
"""Messages of torch.distributed about a peer that has disconnected."""


class Run:
    """The run directory of a command: ``config.json``, ``metrics.jsonl``, ``metrics.json``,
    ``checkpoint/``, ``figures/``, ``tensorboard/`` and ``report.html``.

    ``asked`` are the options as given by the user, if the command has changed some.

    Raises:
        UsageError: If the directory holds another run, or cannot be written; when resuming, if
            there is nothing to continue or an option differs.
    """

    def __init__(self, command: str, config: Any, asked: Any = None) -> None:
        self.command, self.config = command, config
        self.options = plain(dataclasses.asdict(config))
        self.asked = plain(dataclasses.asdict(asked or config))
        self.device = pick_device(config.device)
        self.saved: dict[str, Any] | None = None
        self.content: dict[str, Any] = {}
        self.compiled = self.begun = False
        self.data_record: dict[str, Any] | None = None
        self.data_changed: str | None = None
        resume = getattr(config, "resume", False)
        self.place = RunDirectory(command, config.out, resume)
        try:
            if resume:
                self.saved = read_saved(command, self.asked, config)
            self.lock = Lock(self.place.path)
            self.lock.path = Path(gathered(str(self.place.path))[0])
        except BaseException:
            self.place.remove()
            raise
        self.resumed = self.saved is not None
        self.signals, self._held = Signals(), ExitStack()
        self._held.enter_context(self.lock)
        self.began = time.perf_counter()
        self.train_seconds = self.compile_seconds = 0.0
        # kept compact, because the log stays in memory and is part of every checkpoint
        self.losses, self.lines = array("d"), list[str]()
        self.figures: list[Path] = []
        self._warned: set[str] = set()

    @property
    def path(self) -> Path:
        """The run directory, which may have been moved; a ``TrainingError`` if it is lost."""
        before = self.lock.path
        if (path := self.lock.directory()) != before:
            self.say(f"warning: {before} was moved; the run continues in {path}.")
        return path

    def __enter__(self) -> Self:
        self._held.enter_context(self.signals)
        self._held.enter_context(determinism(getattr(self.config, "deterministic", False)))
        seed = self.config.seed
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        path = self.lock.path
        begun = bool(self.lines or checkpoints(path))
        failed = isinstance(error, (Exception, SystemExit))
        if failed:
            self.place.empty(begun)
        self._held.close()
        if failed:
            self.place.remove()
        if self.signals.received and isinstance(error, (Interrupted, Exception)):
            # a signal may, for example, have interrupted an import
            stop = error if isinstance(error, Interrupted) else Interrupted(self.signals.received)
            stop.directory = path
            raise stop
        if isinstance(error, Exception) and self.begun and (words := _fault(error)) is not None:
            last = "nothing is kept yet"
            if kept := checkpoints(path):
                last = f"{kept[-1]} is complete: --resume continues from it"
            raise TrainingError(f"{words}; {last}.") from error

    def save_config(self, **more: Any) -> None:
        """Write ``config.json``: every option, versions, device, threads.

        A resumed run replaces its file after it has read its checkpoint.
        """
        self.content = {
            "format": FORMAT,
            "command": self.command,
            "options": self.options,
            "versions": versions(),
            "device": str(self.device),
            "threads": torch.get_num_threads(),
            "compiled": self.compiled,
            "processes": world_size(),
            **plain(more),
        }
        if self.asked != self.options:
            self.content["asked"] = self.asked
        if "of" in more:
            self.data_changed = more["of"].get("data_changed")
        if self.saved is None:
            self._write_config()
        self.begun = True

    def _write_config(self) -> None:
        write_json(self.path / "config.json", self.content)
        if self.data_record:
            write_json(self.path / RECORD, self.data_record)

    def say(self, line: str) -> None:
        if is_main():
            tqdm.write(line)

    def warn(self, words: str) -> None:
        """Print a warning, once."""
        kind = re.sub(r"\d[\d.e+-]*", "#", words)  # the same warning with another figure
        if kind not in self._warned:
            self._warned.add(kind)
            self.say(f"warning: {words}")

    @property
    def records(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``."""
        return [json.loads(line) for line in self.lines]

    def renew(self) -> None:
        """Record the present options of a resumed run that had no checkpoint to continue from."""
        if self.saved is not None:
            self.continue_from([], [])

    def continue_from(self, records: list[dict[str, Any]], losses: list[float]) -> None:
        """Cut the log back to these lines, and remove final results."""
        self.lines, self.losses = [json.dumps(record) for record in records], array("d", losses)
        self.train_seconds = sum(record["seconds"] for record in records)
        text = "".join(line + "\n" for line in self.lines)
        if self.saved is not None:
            self.content, warning = with_history(self.content, self.saved, len(records))
            self.saved = self.content
            if warning:
                self.say(warning)
        self._write_config()
        without_results(self.path)
        write_text(self.path / "metrics.jsonl", text)

    def record(self, progress: Progress) -> None:
        """Log an epoch."""
        self.losses.extend(progress.losses)
        self.train_seconds += progress.seconds
        loss = progress.loss if np.isfinite(progress.loss) else None
        record = {
            "epoch": progress.epoch,
            "steps": progress.steps,
            "loss": loss,
            "lr": progress.lr,
            "seconds": progress.seconds,
            "skipped": progress.skipped,
        }
        self.lines.append(json.dumps(record))
        append(self.path / "metrics.jsonl", self.lines[-1])

    def figure(self, name: str, figure: Figure) -> None:
        """Save a picture in the folder of figures."""
        path = self.path / "figures" / f"{name}.png"
        make_directories([path.parent])
        self.figures.append(write(path, lambda file: figure.savefig(file, dpi=110, format="png")))

    def save_metrics(self, metrics: Metrics) -> dict[str, Any]:
        """Write ``metrics.json`` with the elapsed time and peak memory."""
        metrics.seconds = {
            "train": self.train_seconds,
            "compile": self.compile_seconds,
            "total": time.perf_counter() - self.began,
        }
        metrics.memory = peak_memory(self.device)
        metrics.data_changed = self.data_changed
        content = metrics.as_dict()
        write_json(self.path / "metrics.json", content)
        return content


def _fault(error: Exception) -> str | None:
    """A fault of disk, memory or another process in words; None for any other error."""
    text = one_line(str(error), 150)
    if isinstance(error, OSError):
        reason = "no space is left on the disk" if error.errno in FULL else error.strerror or text
        return f"{error.filename}: {reason}" if error.filename else reason
    if is_out_of_memory(error):
        return f"out of memory ({text or 'MemoryError'}); a smaller --batch-size needs less"
    if world_size() > 1 and LOST.search(text):
        return "another process has ended or cannot be reached"
    return None
