"""Optimizers of global parameters and of per-datum rows, and schedules of their rates."""

from experiments.inference.optim.choices import (
    OPTIMIZERS,
    adam,
    adamax,
    global_parameters,
    hierarchical_muon,
    muon,
)
from experiments.inference.optim.muon import Muon, orthogonal
from experiments.inference.optim.rows import RowAdam, local_tables
from experiments.inference.optim.schedules import SCHEDULES, Schedule, constant, cosine

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "Muon",
    "RowAdam",
    "Schedule",
    "adam",
    "adamax",
    "constant",
    "cosine",
    "global_parameters",
    "hierarchical_muon",
    "local_tables",
    "muon",
    "orthogonal",
]
