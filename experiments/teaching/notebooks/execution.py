"""Notebooks are executed in a kernel of their own."""

import os
import time
from typing import Any

from experiments.errors import TrainingError, UsageError, one_line


def executed(notebook: Any, name: str, data: str) -> tuple[Any, float]:
    """Run all cells, and keep what they show; the notebook, and the seconds it took.

    Raises:
        UsageError: If there is no Jupyter to run them.
        TrainingError: If a cell fails.
    """
    try:
        import nbformat
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError
        from traitlets.config import Config as Traits
    except ImportError as error:
        raise UsageError(
            "nbclient is missing: pip install 'ppl-models[labs]', or --no-execute, or --student."
        ) from error
    os.environ["LAB_DATA"] = data  # the kernel inherits it
    started = time.perf_counter()
    run = nbformat.from_dict(notebook)
    transport = {"KernelManager": {"transport": "ipc"}}
    client = NotebookClient(run, timeout=1800, config=Traits(transport))
    try:
        client.execute()
    except CellExecutionError as error:
        raise TrainingError(f"{name}: {one_line(str(error), 1500)}") from error
    return run, round(time.perf_counter() - started, 1)
