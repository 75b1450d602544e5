"""The old place of ``experiments.data.load``."""

from experiments.data.loading import load, load_as

__all__ = ["load", "load_as"]
