"""Pyro's autoguides, for models with global latents, outside the data plate."""

from guides.auto.families import (
    AutoDelta,
    AutoIAF,
    AutoLowRank,
    AutoMultivariateNormal,
    AutoNormal,
)
from guides.auto.wrapped import AUTOGUIDES, Auto

__all__ = [
    "AUTOGUIDES",
    "Auto",
    "AutoDelta",
    "AutoIAF",
    "AutoLowRank",
    "AutoMultivariateNormal",
    "AutoNormal",
]
