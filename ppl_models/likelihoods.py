"""p(x | z): one small class per family, from a decoder's numbers to a distribution of images.

A likelihood takes P = ``parameters_per_pixel`` values per pixel, ``[..., P, *data_shape]``. Its
``pixels`` are the kinds of pixel values for which it is a density or a probability: ``grey`` in
[0, 1], ``binary``, or ``grey-dequantised``, (levels x + u) / (levels + 1) with u uniform.
"""

import math
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ppl_models.distributions import continuous_bernoulli
from ppl_models.distributions.beta import StableBeta
from ppl_models.distributions.discretized import DiscretizedLogisticMixture
from ppl_models.distributions.normals import IsotropicNormal, LogitNormal, LowRankNormal

MIN_SCALE = 1 / 255
"""Least sigma or concentration of a pixel; at zero, a pixel that never changes would make the
likelihood unbounded."""


class Likelihood(nn.Module):
    """p(x | z) given a decoder's output.

    Args:
        data_shape: the shape of an image, ``(C, H, W)``.

    Attributes:
        parameters_per_pixel: number of decoder outputs per pixel.
        pixels: the kinds of pixel values it is defined for.
        measure: density or probability.
    """

    parameters_per_pixel: int = 1
    pixels: ClassVar[tuple[str, ...]] = ()
    measure: ClassVar[str] = "density"

    def __init__(self, data_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.data_shape = tuple(data_shape)

    def distribution(self, parameters: Tensor) -> Any:
        """p(x | z) with event ``data_shape``, from ``[..., P, *data_shape]``."""
        raise NotImplementedError

    def parameters_of_mean(self, mean: Tensor) -> Tensor | None:
        """Decoder outputs with this mean image, ``[P, *data_shape]``; None if unknown."""
        return None

    def split(self, parameters: Tensor) -> tuple[Tensor, ...]:
        """The values of every pixel, one tensor ``[..., *data_shape]`` each."""
        dim = -1 - len(self.data_shape)
        if self.parameters_per_pixel == 1:  # unlike that of unbind, the gradient copies nothing
            return (parameters.squeeze(dim),)
        return parameters.unbind(dim)

    def independent(self, pixel: Any) -> Any:
        """Pixels independent given z."""
        return pixel.to_event(len(self.data_shape))


class Gaussian(Likelihood):
    """One learned sigma for all pixels, as in the lab."""

    pixels = ("grey", "grey-dequantised")

    def __init__(self, data_shape: tuple[int, ...]) -> None:
        super().__init__(data_shape)
        self.log_sigma = nn.Parameter(torch.zeros(()))

    def distribution(self, parameters: Tensor) -> IsotropicNormal:
        (loc,) = self.split(parameters)
        return IsotropicNormal(loc, self.log_sigma.exp(), len(self.data_shape))

    def parameters_of_mean(self, mean: Tensor) -> Tensor:
        return mean.unsqueeze(0)


class GaussianPerPixel(Likelihood):
    """A learned sigma for every pixel, sigma = MIN_SCALE + exp(log_sigma)."""

    pixels = ("grey", "grey-dequantised")

    def __init__(self, data_shape: tuple[int, ...]) -> None:
        super().__init__(data_shape)
        self.log_sigma = nn.Parameter(torch.zeros(self.data_shape))

    def distribution(self, parameters: Tensor) -> Any:
        (loc,) = self.split(parameters)
        return self.independent(dist.Normal(loc, MIN_SCALE + self.log_sigma.exp()))

    def parameters_of_mean(self, mean: Tensor) -> Tensor:
        return mean.unsqueeze(0)


class GaussianDecoder(Likelihood):
    """Location and sigma of every pixel from the decoder, sigma = MIN_SCALE + softplus."""

    parameters_per_pixel = 2
    pixels = ("grey", "grey-dequantised")

    def distribution(self, parameters: Tensor) -> Any:
        loc, scale = self.split(parameters)
        return self.independent(dist.Normal(loc, MIN_SCALE + F.softplus(scale)))


class LowRankGaussian(Likelihood):
    """A Gaussian with covariance F F⊤ + diag(s^2), F of rank 4. The event is flat, ``[D]``.

    F is 0.1 times the decoder's four middle values per pixel, and s = MIN_SCALE + softplus of the
    last one.
    """

    rank = 4
    parameters_per_pixel = 1 + rank + 1
    pixels = ("grey", "grey-dequantised")

    def distribution(self, parameters: Tensor) -> LowRankNormal:
        lead = parameters.shape[: parameters.ndim - len(self.data_shape)]
        flat = parameters.reshape(*lead, math.prod(self.data_shape))
        loc, factor, scale = flat[..., 0, :], flat[..., 1:-1, :], flat[..., -1, :]
        return LowRankNormal(loc, 0.1 * factor.mT, (MIN_SCALE + F.softplus(scale)).square())


class Bernoulli(Likelihood):
    """Binary pixels, independent given z; the decoder outputs their logits."""

    pixels = ("binary",)
    measure = "probability"

    def distribution(self, parameters: Tensor) -> Any:
        (logits,) = self.split(parameters)
        return self.independent(dist.Bernoulli(logits=logits))

    def parameters_of_mean(self, mean: Tensor) -> Tensor:
        return torch.logit(mean.clamp(MIN_SCALE / 2, 1 - MIN_SCALE / 2)).unsqueeze(0)


class ContinuousBernoulli(Likelihood):
    """A density on [0, 1] in the form of a Bernoulli, normalised.

    References:
        Loaiza-Ganem & Cunningham (2019).
    """

    pixels = ("grey", "grey-dequantised")

    def distribution(self, parameters: Tensor) -> Any:
        (logits,) = self.split(parameters)
        return self.independent(continuous_bernoulli.ContinuousBernoulli(logits))


class LogitNormalPixels(Likelihood):
    """The logit of a pixel is normal; the pixel stays inside (0, 1)."""

    parameters_per_pixel = 2
    pixels = ("grey-dequantised",)

    def distribution(self, parameters: Tensor) -> Any:
        loc, scale = self.split(parameters)
        return self.independent(LogitNormal(loc, MIN_SCALE + F.softplus(scale)))


class Beta(Likelihood):
    """A Beta density on (0, 1); both concentrations are MIN_SCALE + softplus of the decoder's."""

    parameters_per_pixel = 2
    pixels = ("grey-dequantised",)

    def distribution(self, parameters: Tensor) -> Any:
        a, b = self.split(parameters)
        return self.independent(StableBeta(MIN_SCALE + F.softplus(a), MIN_SCALE + F.softplus(b)))


class DiscretizedLogistic(Likelihood):
    """Probabilities of the 256 levels of a pixel, from the bins of a logistic density.

    References:
        Kingma et al. (2016), the discretised logistic likelihood.
    """

    parameters_per_pixel = 2
    pixels = ("grey",)
    measure = "probability"
    components: ClassVar[int] = 1
    levels: ClassVar[int] = 255

    def distribution(self, parameters: Tensor) -> DiscretizedLogisticMixture:
        event_dim = len(self.data_shape)
        loc, log_scale, *rest = parameters.split(self.components, -1 - event_dim)
        logits = rest[0] if rest else torch.zeros_like(loc)
        return DiscretizedLogisticMixture(logits, loc, log_scale, self.levels, event_dim)


class DiscretizedLogisticMixtureLikelihood(DiscretizedLogistic):
    """A mixture of ten discretised logistics for every channel of every pixel.

    References:
        Salimans, Karpathy, Chen & Kingma (2017), without the dependence between channels.
    """

    parameters_per_pixel = 30
    components = 10


LIKELIHOODS: dict[str, type[Likelihood]] = {
    "gaussian": Gaussian,
    "gaussian_per_pixel": GaussianPerPixel,
    "gaussian_decoder": GaussianDecoder,
    "low_rank": LowRankGaussian,
    "bernoulli": Bernoulli,
    "continuous_bernoulli": ContinuousBernoulli,
    "logit_normal": LogitNormalPixels,
    "beta": Beta,
    "discretized_logistic": DiscretizedLogistic,
    "discretized_logistic_mixture": DiscretizedLogisticMixtureLikelihood,
}
