"""p(x | z): one small distribution per family."""

import math

import pyro.distributions as dist
from torch import Tensor

__all__ = ["IsotropicNormal"]


class IsotropicNormal(dist.Independent):
    r"""A normal with one sigma for all D entries of an observation.

    .. math::
        x \sim \mathcal N(m, \sigma^2 I_D)

    It is ``Normal(loc, scale).to_event(1)`` with a log-density that reads x once: sigma stays a
    scalar, where broadcasting would take its logarithm and its gradient D times.

    Args:
        loc: ``[..., D]``.
        scale: sigma, a scalar.
    """

    def __init__(self, loc: Tensor, scale: Tensor, validate_args: bool | None = None) -> None:
        super().__init__(dist.Normal(loc, scale, validate_args=validate_args), 1)
        self.sigma = scale

    def expand(self, batch_shape: tuple[int, ...], _instance: None = None) -> "IsotropicNormal":
        loc = self.base_dist.loc.expand(*batch_shape, *self.event_shape)
        return IsotropicNormal(loc, self.sigma, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        if self.base_dist._validate_args:
            self.base_dist._validate_sample(value)
        squared = (value - self.base_dist.loc).square().sum(-1)
        entropy = self.event_shape[0] * (self.sigma.log() + 0.5 * math.log(2 * math.pi))
        return -0.5 * squared / self.sigma.square() - entropy
