"""Runs in separate processes, several at a time, on this machine or on a Ray cluster."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import experiments
from experiments.errors import UsageError
from experiments.runs.directory import set_aside
from experiments.sweeps.plan import Planned

__all__ = ["BACKENDS", "Outcome", "check_backend", "launch"]

ROOT = Path(experiments.__path__[0]).parent.absolute()

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
"""Escape sequences for colours."""

RUNNING: set[subprocess.Popen] = set()
"""Child processes that have not ended."""


class Outcome(NamedTuple):
    """The result of a run: its wall time [seconds], and its error in one line if it failed."""

    name: str
    seconds: float
    error: str | None


def launch(run: Planned, threads: int, folder: str) -> Outcome:
    """Run or resume a point, and wait for its end.

    Args:
        run: the point.
        threads: number of CPU threads.
        folder: base directory of relative paths.
    """
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
            cwd=folder,
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
    return {**os.environ, **counts, **_packages(), **words}


def _packages() -> dict[str, str]:
    """The path by which another process finds packages that are not installed."""
    paths = [str(ROOT)] if ROOT.name != "site-packages" else []
    paths += filter(None, [os.environ.get("PYTHONPATH")])
    return {"PYTHONPATH": os.pathsep.join(paths)} if paths else {}


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


def check_backend(name: str) -> None:
    """Refuse Ray if it is not installed.

    Raises:
        UsageError: With the extra that installs it.
    """
    if name == "ray":
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        try:
            import ray  # noqa: F401
        except ImportError:
            raise UsageError(
                'Ray is not installed: pip install "ppl-models[ray]", or --backend joblib.'
            ) from None


def with_joblib(runs: Sequence[Planned], jobs: int, gpus: float) -> Iterator[Outcome]:
    """Several runs at a time on this machine, as they finish; they share its threads.

    If the sweep is interrupted, so are the runs; each can be resumed from its checkpoint.
    """
    import torch
    from joblib import Parallel, delayed

    threads = max(1, torch.get_num_threads() // jobs)
    waiting = Parallel(jobs, backend="threading", return_as="generator_unordered")
    try:
        yield from waiting(delayed(launch)(run, threads, os.getcwd()) for run in runs)
    finally:
        for process in tuple(RUNNING):
            process.terminate()


def with_ray(runs: Sequence[Planned], jobs: int, gpus: float) -> Iterator[Outcome]:
    """Runs on the cluster that ``RAY_ADDRESS`` names, or on one of this machine alone."""
    import ray

    ray.init(log_to_driver=False, runtime_env={"env_vars": _packages()})
    try:
        processors = int(ray.cluster_resources().get("CPU", 1))
        threads = max(1, processors // jobs)
        remote: Any = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=0)(launch)
        waiting = {remote.remote(run, threads, os.getcwd()): run for run in runs}
        while waiting:
            (ready, *_), _ = ray.wait(list(waiting))
            run = waiting.pop(ready)
            try:
                yield ray.get(ready)
            except ray.exceptions.RayError as error:  # for example a lost machine
                yield Outcome(run.name, 0.0, " ".join(COLOUR.sub("", str(error)).split())[:300])
    finally:
        ray.shutdown()


BACKENDS: dict[str, Callable[[Sequence[Planned], int, float], Iterator[Outcome]]] = {
    "joblib": with_joblib,
    "ray": with_ray,
}
