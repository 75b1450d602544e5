"""NVAE's guide: climb from the image, then correct every prior on the model's way down."""

from functools import partial
from typing import Any

import pyro.distributions as dist
from torch import Tensor, nn

from guides.guide import EffectGuide
from guides.hierarchies.tower import features, tower_of
from ppl_models.batch import Batch
from ppl_models.nvae import NVAE
from ppl_models.nvae.distributions import SoftNormal
from ppl_models.nvae.flows import FlowPair
from ppl_models.nvae.layers import Conv
from ppl_models.nvae.lean import Pointwise

__all__ = ["TopDown"]


conv1, conv3 = partial(Conv, kernel_size=1), partial(Conv, kernel_size=3)


def lean_combine(width: int, hidden: int) -> nn.Module:
    """What a posterior sees of the state."""
    return nn.Sequential(nn.SiLU(), Pointwise(width, hidden))


def lean_sampler(hidden: int, outputs: int) -> nn.Module:
    """A posterior's mu and log sigma, zero at first: it starts at the prior."""
    return nn.Sequential(nn.SiLU(), Pointwise(hidden, outputs, 0.0))


class TopDown(EffectGuide):
    r"""Posteriors relative to the priors that the model proposes on its way down.

    .. math::
        q(z \mid x) = q(z_0 \mid x) \prod_l q(z_l \mid z_{<l}, x), \quad
        q(z_l \mid z_{<l}, x) = \mathcal N(\mu_l + \Delta\mu_l,\ (\sigma_l \Delta\sigma_l)^2)

    Args:
        model: an NVAE.
        channels: channels of the encoder at the size of the image; 0 uses the decoder's.
        cells_per_group: encoder cells per group.
        cells_per_block: encoder cells per block between the image and the finest group.
        attention: use squeeze-and-excitation in every encoder cell.
        residual: add to the prior's mu and log sigma; otherwise replace them.
        flows: number of pairs of autoregressive shifts after every draw.

    Raises:
        ValueError: If the model is not an NVAE, or ``flows`` is negative.

    References:
        Vahdat & Kautz (2020), residual normal distributions.
    """

    def __init__(
        self,
        model: nn.Module,
        channels: int = 0,
        cells_per_group: int = 1,
        cells_per_block: int = 3,
        attention: bool = True,
        residual: bool = True,
        flows: int = 0,
    ) -> None:
        super().__init__(model)
        if not isinstance(model, NVAE):
            raise ValueError(f"top_down needs an NVAE, not {type(model).__name__}.")
        if flows < 0 or channels < 0:
            raise ValueError(f"flows={flows} and channels={channels} must be 0 or more.")
        channels = channels or model.channels
        self.residual = residual
        self.tower = tower_of(model, channels, cells_per_group, cells_per_block, attention)
        widths = self.tower.widths
        sampler, combine = (lean_sampler, lean_combine) if model.lean else (conv3, conv1)
        self.samplers: Any = nn.ModuleList(sampler(width, 2 * model.latents) for width in widths)
        self.combines: Any = nn.ModuleList(
            combine(group.sampler.in_channels, width)
            for group, width in zip(model.groups, widths[1:], strict=True)
        )
        self.flows: Any = nn.ModuleList(
            nn.ModuleList(FlowPair(model.latents) for _ in range(flows)) for _ in widths
        )
        self._features: tuple[Tensor, ...] = ()
        self.like_model()

    def features(self, batch: Batch) -> tuple[Tensor, ...]:
        """What the way up leaves of x for every group, coarse to fine."""
        return features(self.tower, batch)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        self._features = self.seen(batch)
        try:
            return super().forward(batch)
        finally:
            self._features = ()

    def get_posterior(self, name: str, prior: Any) -> Any:
        i = int(name.removeprefix("z"))
        feature = self._features[i]
        if i:
            feature = feature + self.combines[i - 1](self.upstream_value(f"h{i}"))
        mu, log_sigma = self.samplers[i](feature).chunk(2, 1)
        if i and self.residual:
            prior_mu, prior_log_sigma = prior.base_dist.raw
            mu, log_sigma = mu + prior_mu, log_sigma + prior_log_sigma
        posterior = SoftNormal(mu, log_sigma).to_event(3)
        flows = list(self.flows[i])
        return dist.TransformedDistribution(posterior, flows) if flows else posterior
