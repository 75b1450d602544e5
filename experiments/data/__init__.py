"""Data sets, files and minibatches."""

from experiments.data.dataset import Data
from experiments.data.inputs import as_data
from experiments.data.loading import load, load_as

__all__ = ["Data", "as_data", "load", "load_as"]
