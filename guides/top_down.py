"""NVAE's guide: climb from the image, then correct every prior on the model's way down."""

from typing import Any

import pyro.distributions as dist
import torch.nn.functional as F
from torch import Tensor, nn

from guides.guide import EffectGuide
from ppl_models.nvae import NVAE
from ppl_models.nvae.cells import EncoderCell, cells
from ppl_models.nvae.distributions import SoftNormal
from ppl_models.nvae.flows import FlowPair
from ppl_models.nvae.layers import Conv
from ppl_models.program import Batch

__all__ = ["TopDown"]


class Tower(nn.Module):
    """The way up: one feature map per group of latents, coarse to fine."""

    def __init__(
        self, model: NVAE, channels: int, cells_per_group: int, cells_per_block: int,
        attention: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.vanilla = model.vanilla
        self.stem = Conv(model.data_shape[0], channels, 3)
        pre: list[nn.Module] = []
        width = channels
        for _ in range(model.blocks):
            pre += [EncoderCell(width, attention=attention) for _ in range(cells_per_block - 1)]
            pre.append(EncoderCell(width, down=True, attention=attention))
            width *= 2
        self.pre = nn.Sequential(*pre)
        self.groups, self.downs, self.widths = nn.ModuleList(), nn.ModuleDict(), []
        number = 0 if self.vanilla else cells_per_group
        for scale, groups in enumerate(reversed(model.groups_per_scale)):
            if scale:
                self.downs[str(len(self.groups))] = EncoderCell(width, True, attention)
                width *= 2
            for _ in range(groups):
                self.groups.append(cells(EncoderCell, number, width, attention=attention))
                self.widths.append(width)
        self.widths.reverse()
        self.last = Conv(width, width, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features ``[B, channels, h, w]`` of all groups, the top one's first."""
        h = self.pre(self.stem(2 * x - 1))
        features = []
        for i, group in enumerate(self.groups):
            if str(i) in self.downs:
                h = self.downs[str(i)](h)
            h = group(h)
            features.append(h)
        features[-1] = F.elu(self.last(F.elu(h)))
        return features[::-1]


class TopDown(EffectGuide):
    r"""Posteriors relative to the priors that the model proposes on its way down.

    .. math::
        q(z \mid x) = q(z_0 \mid x) \prod_l q(z_l \mid z_{<l}, x), \quad
        q(z_l \mid z_{<l}, x) = \mathcal N(\mu_l + \Delta\mu_l,\ (\sigma_l \Delta\sigma_l)^2)

    Args:
        model: an NVAE.
        channels: of the encoder at the size of the image; 0 takes the decoder's.
        cells_per_group: on the way up.
        cells_per_block: between the image and the finest group.
        attention: squeeze and excite in every cell.
        residual: add to the prior's mu and log sigma (off: replace them).
        flows: pairs of autoregressive shifts after every draw.

    Raises:
        ValueError: If the model is not an NVAE, or ``flows`` is negative.

    References:
        Vahdat & Kautz (2020), residual normal distributions.
    """

    def __init__(
        self, model: nn.Module, channels: int = 0, cells_per_group: int = 1,
        cells_per_block: int = 3, attention: bool = True, residual: bool = True, flows: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(model)
        if not isinstance(model, NVAE):
            raise ValueError(f"top_down needs an NVAE, not {type(model).__name__}.")
        if flows < 0 or channels < 0:
            raise ValueError(f"flows={flows} and channels={channels} must be 0 or more.")
        channels = channels or model.channels
        self.residual = residual
        self.tower = Tower(model, channels, cells_per_group, cells_per_block, attention)
        widths = self.tower.widths
        self.samplers: Any = nn.ModuleList(Conv(width, 2 * model.latents, 3) for width in widths)
        self.combines: Any = nn.ModuleList(
            Conv(group.sampler.in_channels, width, 1)
            for group, width in zip(model.groups, widths[1:], strict=True)
        )
        self.flows: Any = nn.ModuleList(
            nn.ModuleList(FlowPair(model.latents) for _ in range(flows)) for _ in widths
        )
        self._features: list[Tensor] = []
        self.like_model()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.x is not None
        self._features = self.tower(batch.x)
        try:
            return super().forward(batch)
        finally:
            self._features = []

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
