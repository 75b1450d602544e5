"""Objectives: bounds on log p(x) as Pyro ELBOs, without synchronisation inside a step.

A plate rescales a minibatch by N / B, so every objective estimates a sum over the data set, in
nats; ``SVI`` divides by N.
"""

from experiments.inference.objectives.base import Objective
from experiments.inference.objectives.elbo import ELBO, STL, AnalyticKL, LogJoint
from experiments.inference.objectives.enumerated import EnumeratedELBO
from experiments.inference.objectives.free_bits import FreeBits
from experiments.inference.objectives.iwae import IWAE, DReG
from experiments.inference.objectives.miselbo import Miselbo
from experiments.inference.objectives.registry import OBJECTIVES, check_objective
from experiments.inference.objectives.renyi import Renyi

__all__ = [
    "ELBO",
    "IWAE",
    "OBJECTIVES",
    "STL",
    "AnalyticKL",
    "DReG",
    "EnumeratedELBO",
    "FreeBits",
    "LogJoint",
    "Miselbo",
    "Objective",
    "Renyi",
    "check_objective",
]
