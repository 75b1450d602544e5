"""A Beta density whose logarithm and draws are right at small and large concentrations."""

import pyro.distributions as dist
import torch
from torch import Tensor


class StableBeta(dist.Beta):
    r"""A number in (0, 1).

    .. math::
        p(x) = \frac{x^{a - 1} (1 - x)^{b - 1}}{B(a, b)}

    The log-density is a sum of terms as large as a and b that cancel, so it is computed in float64
    and then rounded. At concentrations near zero, much of the mass is closer to 0 or 1 than any
    floating-point number: P(x > 1 - 1e-16) is 0.43 at a = b = 1 / 255. Draws beyond the outermost
    representable numbers are set to these numbers.

    A draw is computed from the logarithms of two gamma variables, G(a) = G(a + 1) U^(1 / a).
    torch's gamma draws underflow at small concentrations, and if both do, torch returns 1/2.

    References:
        Marsaglia & Tsang (2000), for the power of a uniform number.
    """

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        a, b, x = self.concentration1.double(), self.concentration0.double(), value.double()
        log_beta = torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)
        log_prob = torch.xlogy(a - 1, x) + torch.special.xlog1py(b - 1, -x) - log_beta
        return log_prob.to(torch.promote_types(self.concentration1.dtype, value.dtype))

    def rsample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        a, b = self.concentration1, self.concentration0
        x = torch.sigmoid(_log_gamma(a, sample_shape) - _log_gamma(b, sample_shape))
        limits = torch.finfo(x.dtype)
        return x.clamp(limits.tiny, 1 - limits.eps / 2)


def _log_gamma(concentration: Tensor, sample_shape: tuple[int, ...]) -> Tensor:
    """log of draws of Gamma(concentration, 1)."""
    above = dist.Gamma(concentration + 1, torch.ones_like(concentration)).rsample(sample_shape)
    return above.log() + torch.log1p(-torch.rand_like(above)) / concentration
