"""Objectives: bounds on log p(x) as Pyro ELBOs, without synchronisation inside a step.

A plate rescales a minibatch by N / B, so every objective estimates a sum over the data set, in
nats; ``SVI`` divides by N.
"""

from experiments.inference.objectives.base import Objective
from experiments.inference.objectives.elbo import ELBO, STL, AnalyticKL, LogJoint
from experiments.inference.objectives.enumerated import EnumeratedELBO
from experiments.inference.objectives.free_bits import FreeBits
from experiments.inference.objectives.iwae import IWAE, DReG, Renyi
from experiments.inference.objectives.miselbo import Miselbo
from ppl_models.names import check_fits

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

OBJECTIVES: dict[str, type[Objective]] = {
    "elbo": ELBO,
    "elbo_analytic_kl": AnalyticKL,
    "elbo_enum": EnumeratedELBO,
    "elbo_free_bits": FreeBits,
    "stl": STL,
    "iwae": IWAE,
    "dreg": DReG,
    "renyi": Renyi,
    "miselbo": Miselbo,
    "log_joint": LogJoint,
}

OF_ONE_GUIDE = ("log_joint", "miselbo")
"""Objectives of the guides that name them as their own: such a guide takes no other."""


def check_objective(guide: str, own: str, objective: str) -> None:
    """Refuse an objective, by name, that is unknown or does not fit a guide.

    Args:
        guide: the name of the guide.
        own: the objective that the guide's class states.
        objective: the name of the objective asked for.
    """
    others = [name for name in OBJECTIVES if name not in OF_ONE_GUIDE]
    allowed = [own] if own in OF_ONE_GUIDE else others
    check_fits("objective", objective, OBJECTIVES, allowed, f"guide '{guide}'")
