"""Distributions that Pyro lacks, or computes too slowly or too coarsely."""

from ppl_models.distributions.beta import StableBeta
from ppl_models.distributions.continuous_bernoulli import ContinuousBernoulli
from ppl_models.distributions.discretized import DiscretizedLogisticMixture
from ppl_models.distributions.normals import IsotropicNormal, LogitNormal, LowRankNormal

__all__ = [
    "ContinuousBernoulli",
    "DiscretizedLogisticMixture",
    "IsotropicNormal",
    "LogitNormal",
    "LowRankNormal",
    "StableBeta",
]
