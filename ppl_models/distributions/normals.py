"""Gaussian distributions that torch and Pyro lack or implement more slowly."""

import math

import pyro.distributions as dist
import torch
from pyro.distributions.util import sum_rightmost
from torch import Tensor

PROBIT_MIXTURE = (
    (0.0032150449, 1.3661368715),
    (0.0511502276, 1.0603663550),
    (0.1942261663, 0.8316312323),
    (0.3151554783, 0.6515131789),
    (0.2747129786, 0.5088009053),
    (0.1318581764, 0.3968268989),
    (0.0282090937, 0.3092655634),
    (0.0014728342, 0.2384426770),
)
"""Weights w and slopes b for which sigmoid(y) = sum w Phi(b y) within 2.2e-9 at every y.

The minimax fit with eight terms, as Monahan & Stefanski (1992) proposed.
"""


class IsotropicNormal(dist.Independent):
    r"""A normal with one sigma for all D entries of an observation.

    .. math::
        x \sim \mathcal N(m, \sigma^2 I_D)

    Equal to ``Normal(loc, scale).to_event(event_dim)``, but its log-density reads x once. sigma
    stays a scalar; broadcasting would compute its logarithm and gradient D times.

    Args:
        loc: ``[..., *event_shape]``.
        scale: sigma, a scalar.
        event_dim: number of trailing dimensions that form one observation.
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
        squared = sum_rightmost((value - self.base_dist.loc).square(), len(self.event_shape))
        entropy = self.event_shape.numel() * (self.sigma.log() + 0.5 * math.log(2 * math.pi))
        return torch.addcdiv(-entropy, squared, self.sigma.square(), value=-0.5)


class LowRankNormal(dist.LowRankMultivariateNormal):
    r"""A normal with covariance F F⊤ + diag(d) whose log-density stays accurate at small d.

    With c = E[z | x], the posterior mean of the factors z, the squared distance is a sum of
    positive terms,

    .. math::
        (x - m)^\top \Sigma^{-1} (x - m)
            = \lVert d^{-1/2} (x - m - F c) \rVert^2 + \lVert c \rVert^2

    while torch subtracts two terms that may be millions of times larger (Woodbury). The matrix
    I + F⊤ diag(1/d) F is factorised in float64: in float32, nearly parallel columns can make it
    indefinite.

    Args:
        loc: m, ``[..., D]``.
        cov_factor: F, ``[..., D, M]``.
        cov_diag: d, ``[..., D]``.
    """

    def __init__(
        self, loc: Tensor, cov_factor: Tensor, cov_diag: Tensor, validate_args: bool | None = None
    ) -> None:
        super().__init__(loc, cov_factor.double(), cov_diag.double(), validate_args)

    def expand(self, batch_shape: tuple[int, ...], _instance: None = None) -> "LowRankNormal":
        factor, diagonal = self._unbroadcasted_cov_factor, self._unbroadcasted_cov_diag
        loc = self.loc.expand(*batch_shape, -1)
        return LowRankNormal(loc, factor, diagonal, validate_args=False)

    def rsample(self, sample_shape: tuple[int, ...] = torch.Size()) -> Tensor:
        loc = self.loc.expand(self._extended_shape(torch.Size(sample_shape)))
        F, d = self._unbroadcasted_cov_factor.to(loc), self._unbroadcasted_cov_diag.to(loc)
        z = torch.randn(*loc.shape[:-1], F.shape[-1], 1, dtype=loc.dtype, device=loc.device)
        return loc + (F @ z).squeeze(-1) + d.sqrt() * torch.randn_like(loc)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        F, d = self._unbroadcasted_cov_factor, self._unbroadcasted_cov_diag
        L = self._capacitance_tril
        identity = torch.eye(L.shape[-1], dtype=L.dtype, device=L.device)
        inverse = torch.linalg.solve_triangular(L, identity, upper=False)
        difference = value - self.loc
        residual = difference.double().unsqueeze(-2)
        c = residual @ (F / d.unsqueeze(-1)) @ inverse.mT @ inverse
        unexplained = (residual - c @ F.mT).squeeze(-2)
        squared = (unexplained.square() / d).sum(-1) + c.square().sum((-2, -1))
        log_det = d.log().sum(-1) + 2 * L.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = self.event_shape[0] * math.log(2 * math.pi)
        return (-0.5 * (squared + log_det + constant)).to(difference.dtype)


class LogitNormal(dist.TransformedDistribution):
    r"""A number in (0, 1) whose logit is normal.

    .. math::
        \operatorname{logit} x \sim \mathcal N(m, s^2)

    At 0 and 1, which only rounding can reach, the density is zero. The mean has no closed form,
    but the logistic function is close to a mixture of normal distribution functions
    (``PROBIT_MIXTURE``), and each of these has one:

    .. math::
        \mathbb E\, \Phi(b y) = \Phi\left(b m / \sqrt{1 + b^2 s^2}\right)
        \quad\text{for } y \sim \mathcal N(m, s^2)

    so the mean is off by at most the mixture's error, 2.2e-9, whatever m and s are.

    References:
        Monahan & Stefanski (1992), normal scale mixture approximations to the logistic.
    """

    def __init__(self, loc: Tensor, scale: Tensor, validate_args: bool | None = None) -> None:
        base = dist.Normal(loc, scale, validate_args=validate_args)
        super().__init__(base, dist.transforms.SigmoidTransform())

    def expand(self, batch_shape: tuple[int, ...], _instance: None = None) -> "LogitNormal":
        base = self.base_dist.expand(batch_shape)
        return LogitNormal(base.loc, base.scale, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        inside = (value > 0) & (value < 1)
        x = torch.where(inside, value, 0.5)
        log_x, log_rest = x.log(), torch.log1p(-x)  # torch's transform cuts x off at 1 - eps
        log_prob = self.base_dist.log_prob(log_x - log_rest) - log_x - log_rest
        return torch.where(inside, log_prob, -math.inf)

    @property
    def mean(self) -> Tensor:
        loc, variance = self.base_dist.loc, self.base_dist.variance
        total = torch.zeros_like(loc)
        for weight, slope in PROBIT_MIXTURE:
            total = total + weight * torch.special.ndtr(loc * (slope**-2 + variance).rsqrt())
        return total
