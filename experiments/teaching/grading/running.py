"""One submitted notebook in a process of its own, and what became of it."""

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from experiments.teaching.grading.sandbox import prefix
from experiments.teaching.notebooks.myst import Call, plain

ROOT = Path(__file__).parents[3]
STARTING = 60.0
"""Seconds in which a process has to be ready to run a notebook, besides its time limit."""


class Outcome(NamedTuple):
    """What running a notebook showed.

    Args:
        hints: what each check said last, by its key; empty for a right answer.
        errors: of cells, in their order.
        replaced: functions of the libraries and the checks that the notebook replaced.
    """

    hints: dict[str, str]
    errors: list[str]
    replaced: list[str]

    @property
    def passed(self) -> set[str]:
        """Keys of the checks that found a right answer."""
        return {key for key, hint in self.hints.items() if not hint}


def rerun(notebook: dict[str, Any], calls: dict[str, Call], seconds: float) -> Outcome:
    """Run a notebook's cells in a fresh process, and call the checks on what they define."""
    word = secrets.token_hex(16)
    cells = [
        {"number": number, "code": plain(cell["source"])}
        for number, cell in enumerate(notebook["cells"], 1)
        if cell["cell_type"] == "code"
    ]
    order = {"word": word, "cells": cells, "calls": calls, "seconds": seconds}
    with tempfile.TemporaryDirectory(prefix="ppl-grade-") as folder:
        lines, late = _lines(json.dumps(order), Path(folder), seconds)
    marked = [line.split(b" ", 1) for line in lines]
    found = [json.loads(m[1]) for m in marked if len(m) == 2 and m[0] == word.encode()]
    return _outcome(found, late, seconds)


def _lines(order: str, folder: Path, seconds: float) -> tuple[list[bytes], bool]:
    """What the process wrote, and whether it took too long."""
    kept = ("PATH", "LANG", "LC_ALL", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "SYSTEMROOT")
    environment = {name: os.environ[name] for name in kept if name in os.environ} | {
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "MPLCONFIGDIR": str(folder),
        "MPLBACKEND": "Agg",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "TORCHDYNAMO_DISABLE": "1",  # torch.compile starts a compiler, which is refused
    }
    command = [*prefix(), sys.executable, "-m", "experiments.teaching.grading.worker"]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env=environment,
        start_new_session=True,
    )
    started = time.monotonic()
    try:
        output, _ = process.communicate(order.encode(), timeout=seconds + STARTING)
        late = process.returncode != 0 and time.monotonic() - started >= seconds
        return output.splitlines(), late
    except subprocess.TimeoutExpired:
        _kill(process)
        output, _ = process.communicate()
        return output.splitlines(), True
    finally:
        _kill(process)


def _kill(process: subprocess.Popen) -> None:
    """End a process, and all that it started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _outcome(found: Sequence[dict[str, Any]], late: bool, seconds: float) -> Outcome:
    last = {key: value for item in found for key, value in item.items()}
    hints = {item["check"]: item["hint"] for item in found if "check" in item}
    errors = [item["error"] for item in found if "error" in item]
    replaced = {name for item in found for name in item.get("replaced", ())}
    cell = f"cell {last.get('cell', 0)}"
    if "started" not in last:
        errors.append("the process that runs the notebook did not start")
    elif late:
        errors.append(f"{cell}: stopped, it took longer than {seconds:g} seconds")
    elif "done" not in last:
        errors.append(f"{cell}: ended the process")
    return Outcome(hints, errors, sorted(replaced))
