"""Data sets, files and minibatches. Importing this package loads no torch; its names do."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.data.dataset import Data
    from experiments.data.inputs import as_data
    from experiments.data.loading import load, load_as

__all__ = ["Data", "as_data", "load", "load_as"]

HOMES = {"Data": "dataset", "as_data": "inputs", "load": "loading", "load_as": "loading"}


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{HOMES[name]}"), name)
