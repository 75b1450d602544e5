"""The distributions of NVAE: a soft-clamped normal for latents, and three for pixels."""

import math
from typing import ClassVar

import pyro.distributions as dist
import torch
import torch.nn.functional as F
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints


def soft_clamp(a: Tensor) -> Tensor:
    """5 tanh(a / 5): close to a where a is small, always between -5 and 5.

    References:
        Vahdat & Kautz (2020), whose published code has it.
    """
    return 5 * torch.tanh(a / 5)


class SoftNormal(dist.Normal):
    r"""A normal whose mean lies between -5 and 5 and whose scale between 0.0167 and 148.4.

    .. math::
        z \sim \mathcal N(c(\mu),\ (e^{c(\log\sigma)} + 0.01)^2), \quad c(a) = 5 \tanh(a / 5)

    Args:
        mu: the location before the clamp.
        log_sigma: the logarithm of the scale before the clamp.

    Attributes:
        raw: mu and log_sigma before the clamp; residual posteriors add to them.
    """

    def __init__(self, mu: Tensor, log_sigma: Tensor, validate_args: bool | None = None) -> None:
        self.raw = mu, log_sigma
        scale = soft_clamp(log_sigma).exp() + 0.01
        super().__init__(soft_clamp(mu), scale, validate_args=validate_args)

    def expand(self, batch_shape: tuple[int, ...], _instance: None = None) -> "SoftNormal":
        mu, log_sigma = (part.expand(batch_shape) for part in self.raw)
        return type(self)(mu, log_sigma, validate_args=False)


class CroppedBernoulli(dist.Independent):
    """Binary pixels; a border of ``crop`` pixels is drawn but does not count in the likelihood.

    Args:
        logits: ``[..., 1, H, W]``.
        crop: width of the border, in pixels.
    """

    def __init__(self, logits: Tensor, crop: int = 2, validate_args: bool | None = None) -> None:
        pixel = dist.Bernoulli(logits=logits, validate_args=validate_args)
        size = [side - 2 * crop for side in logits.shape[-2:]]
        inside = F.pad(torch.ones(size, dtype=torch.bool, device=logits.device), (crop,) * 4)
        super().__init__(pixel.mask(inside) if crop else pixel, 3)
        self.logits, self.crop = logits, crop

    def expand(self, batch_shape: tuple[int, ...], _instance: None = None) -> "CroppedBernoulli":
        logits = self.logits.expand(*batch_shape, *self.event_shape)
        return CroppedBernoulli(logits, self.crop, validate_args=False)

    @property
    def expected(self) -> Tensor:
        """The mean, and zero on the border, where the network was not trained."""
        width = (self.crop,) * 4
        inside = slice(self.crop, -self.crop or None)
        return F.pad(self.mean[..., inside, inside], width)


class HalvedNormal(SoftNormal):
    """x with 2x - 1 drawn from a ``SoftNormal``, and the density of 2x - 1."""

    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(2 * value - 1)

    @property
    def mean(self) -> Tensor:
        return (self.loc + 1) / 2

    @property
    def stddev(self) -> Tensor:
        return self.scale / 2

    def rsample(self, sample_shape: tuple[int, ...] = torch.Size()) -> Tensor:
        return (super().rsample(sample_shape) + 1) / 2

    def sample(self, sample_shape: tuple[int, ...] = torch.Size()) -> Tensor:
        with torch.no_grad():
            return self.rsample(sample_shape)


class PixelNormal(dist.Independent):
    """RGB pixels: a density of 2x - 1, as in the reference (that of x is log 2 more per number).

    Args:
        mu: ``[..., 3, H, W]``, before the soft clamp.
        log_sigma: in the same shape, before the soft clamp.
    """

    def __init__(self, mu: Tensor, log_sigma: Tensor, validate_args: bool | None = None) -> None:
        super().__init__(HalvedNormal(mu, log_sigma, validate_args=validate_args), 3)

    def expand(self, batch_shape: tuple[int, ...], _instance: None = None) -> "PixelNormal":
        shape = (*batch_shape, *self.event_shape)
        return PixelNormal(*(part.expand(shape) for part in self.base_dist.raw))


class ReferenceLogisticMixture(TorchDistribution):
    r"""RGB pixels as a mixture of J discretised logistics whose colours depend on each other.

    As in the reference: a level above 0.99 on [-1, 1] gets the whole upper tail. At 8 bits levels
    254 and 255 both do, so that probabilities sum to more than one (1.0006 for a wide component,
    up to 1.145 for a narrow one near the edge); at 5 bits they sum to one.

    Args:
        parameters: ``[..., 10 J, H, W]``: J mixture logits, then for red, green and blue in turn J
            means, J log-scales (at least -7) and J coefficients.
        bits: bits per channel; pixels are levels / (2^bits - 1).

    References:
        Salimans, Karpathy, Chen & Kingma (2017); Vahdat & Kautz (2020).
    """

    arg_constraints: ClassVar[dict] = {"parameters": constraints.real}
    support = constraints.independent(constraints.unit_interval, 3)
    has_rsample = False

    def __init__(
        self, parameters: Tensor, bits: int = 8, validate_args: bool | None = None
    ) -> None:
        self.parameters, self.bits = parameters, bits
        self.components = parameters.shape[-3] // 10
        self.logits = parameters[..., : self.components, :, :]
        rest = parameters[..., self.components :, :, :]
        colours = rest.unflatten(-3, (3, 3, self.components))  # colour, kind, component
        self.loc, log_scale, coefficients = colours.unbind(-4)
        self.log_scale, self.coefficients = log_scale.clamp(min=-7), torch.tanh(coefficients)
        shape = parameters.shape
        event = torch.Size((3, *shape[-2:]))
        super().__init__(shape[:-3], event, validate_args=validate_args)

    def expand(
        self, batch_shape: tuple[int, ...], _instance: None = None
    ) -> "ReferenceLogisticMixture":
        shape = self.parameters.shape[-3:]
        return ReferenceLogisticMixture(
            self.parameters.expand(*batch_shape, *shape), self.bits, validate_args=False
        )

    def log_prob_map(self, value: Tensor) -> Tensor:
        """log p of every pixel, ``[..., H, W]`` [nats]."""
        x = (2 * value - 1).unsqueeze(-3)  # [..., 3, 1, H, W] against [..., 3, J, H, W]
        red, green, _ = x.unbind(-4)
        c = self.coefficients.unbind(-4)
        shifts = torch.zeros_like(c[0]), c[0] * red, c[1] * red + c[2] * green
        shift = torch.stack(torch.broadcast_tensors(*shifts), -4)
        log_prob = self._channel(x, self.loc + shift).sum(-4)
        return (log_prob + self.logits.log_softmax(-3)).logsumexp(-3)

    def _channel(self, x: Tensor, mean: Tensor) -> Tensor:
        """log probability of the bin of one channel under every component."""
        levels = 2**self.bits - 1
        inverse, centred = (-self.log_scale).exp(), x - mean
        above, below = inverse * (centred + 1 / levels), inverse * (centred - 1 / levels)
        middle = inverse * centred
        probability = torch.sigmoid(above) - torch.sigmoid(below)
        density = middle - self.log_scale - 2 * F.softplus(middle) - math.log(levels / 2)
        inside = torch.where(probability > 1e-5, probability.clamp(min=1e-10).log(), density)
        lowest = above - F.softplus(above)
        highest = -F.softplus(below)
        return torch.where(x < -0.999, lowest, torch.where(x > 0.99, highest, inside))

    def log_prob(self, value: Tensor) -> Tensor:
        return self.log_prob_map(value).sum((-2, -1))

    def _recursion(self, loc: Tensor, coefficients: Tensor) -> Tensor:
        """Colours one after the other, clamped, on [0, 1]: ``[..., 3, H, W]`` from the same."""
        c = coefficients.unbind(-3)
        red = loc[..., 0, :, :].clamp(-1, 1)
        green = (loc[..., 1, :, :] + c[0] * red).clamp(-1, 1)
        blue = (loc[..., 2, :, :] + c[1] * red + c[2] * green).clamp(-1, 1)
        return torch.stack([red, green, blue], -3) / 2 + 0.5

    @property
    def mean(self) -> Tensor:
        """The image that the reference shows as the mean: the weighted locations, not E[x]."""
        weights = self.logits.softmax(-3).unsqueeze(-4)
        loc, coefficients = ((weights * part).sum(-3) for part in (self.loc, self.coefficients))
        return self._recursion(loc, coefficients)

    def draw(self, gumbel: Tensor, logistic: Tensor, temperature: float = 1.0) -> Tensor:
        """A sample from uniforms ``[..., J, H, W]`` and ``[..., 3, H, W]``.

        The temperature divides the logits and, as in the reference, also divides the scales.
        """
        noise = -(-gumbel.log()).log()
        chosen = (self.logits / temperature + noise).argmax(-3, keepdim=True).unsqueeze(-4)
        index = chosen.expand(*self.loc.shape[:-3], 1, *self.loc.shape[-2:])
        loc, log_scale, coefficients = (
            part.gather(-3, index).squeeze(-3)
            for part in (self.loc, self.log_scale, self.coefficients)
        )
        noise = logistic.log() - (1 - logistic).log()
        return self._recursion(loc + log_scale.exp() / temperature * noise, coefficients)

    def sample(self, sample_shape: tuple[int, ...] = torch.Size()) -> Tensor:
        with torch.no_grad():
            lead = (*sample_shape, *self.logits.shape[:-3])
            size = self.logits.shape[-2:]
            gumbel, logistic = (
                self.logits.new_empty(*lead, count, *size).uniform_(1e-5, 1 - 1e-5)
                for count in (self.components, 3)
            )
            return self.expand(lead).draw(gumbel, logistic)
