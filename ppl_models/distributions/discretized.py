"""Probabilities of pixel levels from the bins of a logistic density."""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from pyro.distributions import TorchDistribution
from pyro.distributions.util import sum_rightmost
from torch import Tensor
from torch.distributions import constraints

from ppl_models.distributions.continuous_bernoulli import log_ratio


class DiscretizedLogisticMixture(TorchDistribution):
    r"""A mixture of logistics over the levels k / L, k = 0 ... L, of every entry of an image.

    .. math::
        P(k / L) = \sum_j \pi_j \left[
            \operatorname{sigmoid}\frac{(k + 1/2) / L - m_j}{s_j}
            - \operatorname{sigmoid}\frac{(k - 1/2) / L - m_j}{s_j} \right]

    with the lower edge of level 0 at minus infinity and the upper edge of level L at plus
    infinity, so that the probabilities of the levels add up to one.

    Args:
        logits: logits of the J components, ``[..., J, *event_shape]``.
        loc: m, in the same shape.
        log_scale: log s, in the same shape.
        levels: L, 255 for bytes.
        event_dim: number of dimensions of an image.

    References:
        Salimans, Karpathy, Chen & Kingma (2017), the discretised logistic mixture.
    """

    arg_constraints: ClassVar[dict] = {}
    has_rsample = False

    def __init__(
        self, logits: Tensor, loc: Tensor, log_scale: Tensor, levels: int, event_dim: int
    ) -> None:
        self.logits, self.loc, self.log_scale, self.levels = logits, loc, log_scale, levels
        self._dim = -1 - event_dim
        super().__init__(
            logits.shape[: self._dim], logits.shape[logits.ndim - event_dim :], validate_args=False
        )

    @constraints.dependent_property(is_discrete=True)
    def support(self) -> constraints.Constraint:
        return constraints.independent(constraints.unit_interval, self.event_dim)

    def expand(self, batch_shape: tuple, _instance: None = None) -> "DiscretizedLogisticMixture":
        shape = (*batch_shape, *self.logits.shape[self._dim :])
        logits, loc, log_scale = (
            part.expand(shape) for part in (self.logits, self.loc, self.log_scale)
        )
        return DiscretizedLogisticMixture(logits, loc, log_scale, self.levels, self.event_dim)

    def _scale_parameters(self) -> tuple[Tensor, Tensor]:
        """log s and 1 / s. A scale whose inverse might overflow (e^-43 in float32) counts as the
        smallest that cannot: a bin has all of the mass, or none, either way."""
        log_scale = self.log_scale.clamp(min=math.log(torch.finfo(self.log_scale.dtype).tiny) / 2)
        return log_scale, (-log_scale).exp()

    def log_prob(self, value: Tensor) -> Tensor:
        x, half = value.unsqueeze(self._dim), 0.5 / self.levels
        log_scale, inverse = self._scale_parameters()
        upper, lower = (x + half - self.loc) * inverse, (x - half - self.loc) * inverse
        # sigmoid(u) - sigmoid(l) = sigmoid(u) sigmoid(-l) (1 - exp(l - u)), without cancellation;
        # the width u - l is known exactly, and its logarithm where it underflows
        log_inside = -log_scale - math.log(self.levels) - log_ratio(inverse / self.levels)
        bin_ = F.logsigmoid(upper) + F.logsigmoid(-lower) + log_inside
        log_p = torch.where(
            x < half, F.logsigmoid(upper), torch.where(x > 1 - half, F.logsigmoid(-lower), bin_)
        )
        mixture = (log_p + F.log_softmax(self.logits, self._dim)).logsumexp(self._dim)
        return sum_rightmost(mixture, self.event_dim)

    def sample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            shape = (*sample_shape, *self.logits.shape)
            gumbel = -torch.empty(shape, device=self.loc.device).exponential_().log()
            chosen = (self.logits + gumbel).argmax(self._dim, keepdim=True)
            loc, log_scale = (
                part.expand(shape).gather(self._dim, chosen).squeeze(self._dim)
                for part in (self.loc, self.log_scale)
            )
            u = torch.empty_like(loc).uniform_(1e-7, 1 - 1e-7)
            x = loc + log_scale.exp() * torch.logit(u)
            return (x * self.levels).round().clamp(0, self.levels) / self.levels

    @property
    def mean(self) -> Tensor:
        """The mean over levels, ``[*batch_shape, *event_shape]``: sum_k P(x >= k / L) / L."""
        weights, (_, inverse) = self.logits.softmax(self._dim), self._scale_parameters()
        total = torch.zeros_like(self.loc)
        for k in range(1, self.levels + 1):
            total = total + torch.sigmoid((self.loc - (k - 0.5) / self.levels) * inverse)
        return (weights * total).sum(self._dim) / self.levels
