"""The continuous Bernoulli, accurate at every finite logit; torch's is not beyond 16."""

import math
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

SMALL = 0.5
"""Below it the closed forms cancel, and the series have converged to double precision."""

# log(sinh(a / 2) / (a / 2)) = sum_n c_n a^(2n), c_n = B_2n / (2n (2n)!), with the Bernoulli
# numbers B_2n
SERIES = tuple(
    bernoulli / (2 * n * math.factorial(2 * n))
    for n, bernoulli in enumerate((1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6), 1)
)
FIRST = tuple(2 * n * c for n, c in enumerate(SERIES, 1))  # of the derivative, at a^(2n - 1)
SECOND = tuple((2 * n - 1) * c for n, c in enumerate(FIRST, 1))  # of the second, at a^(2n - 2)


def _polynomial(x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    """Sum of ``coefficients[n] x^n``, by Horner's scheme."""
    total = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient
    return total


def _parts(a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Masks a for two branches (small: a or 0, large: a or 1), so that neither produces a NaN."""
    small = a < SMALL
    return small, torch.where(small, a, 0.0), torch.where(small, 1.0, a)


def log_ratio(a: Tensor) -> Tensor:
    """log(a / (1 - exp(-a))) for a >= 0, the largest log-density at a logit of size a.

    Its derivatives are exact.
    """
    small, near, far = _parts(a)
    square = near.square()
    series = near / 2 - square * _polynomial(square, SERIES)
    return torch.where(small, series, far.log() - torch.log(-torch.expm1(-far)))


def _mean_at(a: Tensor) -> Tensor:
    """The mean at logit -a, 1 / a - 1 / (exp(a) - 1): the derivative of ``log_ratio``."""
    small, near, far = _parts(a)
    series = 0.5 - near * _polynomial(near.square(), FIRST)
    return torch.where(small, series, 1 / far + torch.exp(-far) / torch.expm1(-far))


def _variance_at(a: Tensor) -> Tensor:
    """The variance at logit a or -a, 1 / a^2 - exp(-a) / (1 - exp(-a))^2."""
    small, near, far = _parts(a)
    series = _polynomial(near.square(), SECOND)
    closed = far.reciprocal().square() - torch.exp(-far) / torch.expm1(-far).square()
    return torch.where(small, series, closed)


def _quantile_at(a: Tensor, u: Tensor) -> Tensor:
    """The quantile at logit -a, -log(1 - u (1 - exp(-a))) / a, for u in [0, 1)."""
    small = a < 0.01
    near, far = torch.where(small, a, 0.0), torch.where(small, 1.0, a)
    v = u * (1 - u)
    terms = near * (0.5 - near * ((1 - 2 * u) / 6 - near * (1 - 6 * v) / 24))
    return torch.where(small, u - v * terms, -torch.log1p(u * torch.expm1(-far)) / far)


class ContinuousBernoulli(TorchDistribution):
    r"""A density on [0, 1] in the form of a Bernoulli.

    .. math::
        p(x) = C(l)\, \frac{e^{l x}}{1 + e^l}, \qquad
        p(x) = \frac{l\, e^{l x}}{e^l - 1}

    Log-density, mean, variance and their gradients are exact to rounding at every finite logit l:
    with a the size of l and d the distance of x from the end that l favours,
    log p = log(a / (1 - e^-a)) - a d, in which nothing cancels.

    Args:
        logits: l, ``[...]``.

    References:
        Loaiza-Ganem & Cunningham (2019).
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"logits": constraints.real}
    support = constraints.unit_interval
    has_rsample = True

    def __init__(self, logits: Tensor, validate_args: bool | None = None) -> None:
        self.logits = logits
        self._positive = logits > 0
        # where, not abs: its derivative at zero is the one of the chosen branch
        self._size = torch.where(self._positive, logits, -logits)
        super().__init__(logits.shape, validate_args=validate_args)

    def expand(
        self, batch_shape: tuple[int, ...], _instance: None = None
    ) -> "ContinuousBernoulli":
        return ContinuousBernoulli(self.logits.expand(batch_shape), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        end = self._positive.to(self.logits.dtype)
        return self.logits * (value - end) + log_ratio(self._size)

    @property
    def mean(self) -> Tensor:
        from_end = _mean_at(self._size)
        return torch.where(self._positive, 1 - from_end, from_end)

    @property
    def variance(self) -> Tensor:
        return _variance_at(self._size)

    def rsample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        u = torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device)
        x = _quantile_at(self._size, u)
        return torch.where(self._positive, 1 - x, x)
