"""Runs in separate processes, several at a time."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.errors import UsageError
from experiments.runs.directory import set_aside
from experiments.sweeps.plan import Planned

ROOT = Path(__file__).absolute().parents[2]
RUNNING: set[subprocess.Popen] = set()
"""Child processes that have not ended."""


class Outcome(NamedTuple):
    """The result of a run: its wall time [seconds], and its error in one line if it failed."""

    name: str
    seconds: float
    error: str | None


def launch(run: Planned, threads: int) -> Outcome:
    """Run or resume a point with this number of CPU threads, and wait until it ends."""
    words = [sys.executable, "-m", run.module, *run.arguments, "--out", str(run.path)]
    began = time.perf_counter()
    try:
        if run.path.exists() and "resume" in run.options:
            words.append("--resume")
        elif run.path.exists():
            set_aside(run.path)  # the command cannot continue it
    except UsageError as refusal:  # a run started by a killed sweep is still running
        return Outcome(run.name, 0.0, str(refusal))
    with run.log.open("a", encoding="utf-8") as log:
        start = log.tell()
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(threads),
            process_group=0,  # Ctrl-C goes to the sweep, which forwards it
        )
    RUNNING.add(process)
    try:
        error = _error(process.wait(), run, start)
    finally:
        RUNNING.discard(process)
    return Outcome(run.name, time.perf_counter() - began, error)


def _environment(threads: int) -> dict[str, str]:
    """The environment of this process, with its packages first and a limit on threads."""
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    words = {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8:backslashreplace"}
    paths = [str(ROOT)] if ROOT.name != "site-packages" else []  # not installed
    paths += filter(None, [os.environ.get("PYTHONPATH")])
    return {**os.environ, **counts, **words, "PYTHONPATH": os.pathsep.join(paths)}


def _error(code: int, run: Planned, start: int) -> str | None:
    """The error of a run, from the part of its log that begins at ``start``."""
    if code == 0 and run.state == "finished":
        return None
    if code < 0:
        return f"ended by signal {-code}" + (", perhaps for lack of memory" if code == -9 else "")
    written = run.log.read_bytes()[start:].decode(errors="replace")
    lines = [line for line in written.splitlines() if line.strip()]
    words = [line for line in lines if line.startswith("error: ")] or lines[-1:]
    if code == 0 or not words:
        return f"ended with code {code} and left no report"
    return words[-1].removeprefix("error: ")


def launch_all(runs: Sequence[Planned], jobs: int) -> Iterator[Outcome]:
    """Run several at a time, and yield outcomes as they end; an interrupt ends all of them."""
    import torch
    from joblib import Parallel, delayed

    threads = max(1, torch.get_num_threads() // jobs)
    waiting = Parallel(jobs, backend="threading", return_as="generator_unordered")
    try:
        yield from waiting(delayed(launch)(run, threads) for run in runs)
    finally:
        for process in tuple(RUNNING):
            process.terminate()
