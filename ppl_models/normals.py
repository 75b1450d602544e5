"""Gaussian distributions that torch and Pyro lack, or have slower."""

import math

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor

__all__ = ["IsotropicNormal", "LogitNormal"]


class IsotropicNormal(dist.Independent):
    r"""A normal with one sigma for all D entries of an observation.

    .. math::
        x \sim \mathcal N(m, \sigma^2 I_D)

    It is ``Normal(loc, scale).to_event(event_dim)`` with a log-density that reads x once: sigma
    stays a scalar, where broadcasting would take its logarithm and its gradient D times.

    Args:
        loc: ``[..., *event_shape]``.
        scale: sigma, a scalar.
        event_dim: how many of the last dimensions are one observation.
    """

    def __init__(
        self, loc: Tensor, scale: Tensor, event_dim: int = 1, validate_args: bool | None = None
    ) -> None:
        super().__init__(dist.Normal(loc, scale, validate_args=validate_args), event_dim)
        self.sigma = scale

    def expand(self, batch_shape: tuple[int, ...], _instance: None = None) -> "IsotropicNormal":
        if torch.Size(batch_shape) == self.batch_shape:
            return self
        loc = self.base_dist.loc.expand(*batch_shape, *self.event_shape)
        return IsotropicNormal(loc, self.sigma, len(self.event_shape), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        if self.base_dist._validate_args:
            self.base_dist._validate_sample(value)
        squared = (value - self.base_dist.loc).square().flatten(-len(self.event_shape)).sum(-1)
        entropy = self.event_shape.numel() * (self.sigma.log() + 0.5 * math.log(2 * math.pi))
        return torch.addcdiv(-entropy, squared, self.sigma.square(), value=-0.5)


class LogitNormal(dist.TransformedDistribution):
    r"""A number in (0, 1) whose logit is normal.

    .. math::
        \operatorname{logit} x \sim \mathcal N(m, s^2)

    Its mean has no closed form; it is computed by Gauss-Hermite quadrature with 32 nodes.
    """

    def __init__(self, loc: Tensor, scale: Tensor, validate_args: bool | None = None) -> None:
        base = dist.Normal(loc, scale, validate_args=validate_args)
        super().__init__(base, dist.transforms.SigmoidTransform())

    def expand(self, batch_shape: tuple[int, ...], _instance: None = None) -> "LogitNormal":
        base = self.base_dist.expand(batch_shape)
        return LogitNormal(base.loc, base.scale, validate_args=False)

    @property
    def mean(self) -> Tensor:
        nodes, weights = np.polynomial.hermite_e.hermegauss(32)
        loc, scale = self.base_dist.loc, self.base_dist.scale
        total = torch.zeros_like(loc)
        for node, weight in zip(nodes, weights / weights.sum(), strict=True):
            total = total + weight * torch.sigmoid(loc + node * scale)
        return total
