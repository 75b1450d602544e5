"""The top-down guide of NVAE: encode x, then correct each prior while the model runs."""

from functools import partial
from typing import Any, Literal

import pyro.distributions as dist
from torch import Tensor, nn

from guides.coordinates import Pushforward
from guides.guide import EffectGuide
from guides.hierarchies.nested import (
    ConcatLinear,
    FlatTower,
    check_options,
    corrected,
    sites_above,
)
from guides.hierarchies.tower import TowerGuide, tower_of
from guides.latents import latents_of
from ppl_models.batch import Batch
from ppl_models.networks import activation_of
from ppl_models.nvae import NVAE
from ppl_models.nvae.distributions import SoftNormal
from ppl_models.nvae.flows import FlowPair
from ppl_models.nvae.layers import Conv
from ppl_models.nvae.lean import Pointwise

conv1, conv3 = partial(Conv, kernel_size=1), partial(Conv, kernel_size=3)


def lean_combine(width: int, hidden: int) -> nn.Module:
    """What a posterior sees of the state."""
    return nn.Sequential(nn.SiLU(), Pointwise(width, hidden))


def lean_sampler(hidden: int, outputs: int) -> nn.Module:
    """A posterior's mu and log sigma, zero at first: it starts at the prior."""
    return nn.Sequential(nn.SiLU(), Pointwise(hidden, outputs, 0.0))


class TopDown(TowerGuide, EffectGuide):
    r"""Posteriors relative to the priors that the model proposes on its way down.

    .. math::
        q(z \mid x) = q(z_0 \mid x) \prod_l q(z_l \mid z_{<l}, x), \quad
        q(z_l \mid z_{<l}, x) = \mathcal N(\mu_l + \Delta\mu_l,\ (\sigma_l \Delta\sigma_l)^2)

    An NVAE has the published networks. For any other model an MLP sees x, and the posterior of a
    latent z1 also sees the model's feature ``pyro.deterministic("h1", ...)``, or all latents above
    if there is none; maps are flattened. There q is Gaussian in the prior's unconstrained
    coordinates, and relative to the prior if that is Gaussian there too.

    In an NVAE the sums of means and of log sigmas are soft-clamped (``SoftNormal``), as in the
    published model.

    Args:
        model: an NVAE, or any model with continuous per-datum latents.
        channels: for an NVAE: channels of the encoder at the size of the image; 0 uses the
            decoder's.
        cells_per_group: for an NVAE: encoder cells per group; no effect with a lean NVAE or with a
            single group.
        cells_per_block: for an NVAE: encoder cells per block between the image and the finest
            group; with a lean NVAE, at every size of the maps.
        attention: for an NVAE: use squeeze-and-excitation in every encoder cell; no effect with a
            lean NVAE.
        residual: add to the prior's mu and log sigma; otherwise replace them.
        flows: for an NVAE: number of pairs of autoregressive shifts after every draw.
        hidden_dims: for other models: widths of the MLP's hidden layers; with none, the parameters
            of q are affine in what it sees, and a residual q starts at a Gaussian prior.
        activation: for other models: activation of the MLP, a name in ``ACTIVATIONS``.

    Raises:
        ValueError: If a latent has no unconstrained coordinates, ``channels``, ``flows`` or cells
            are too few, or an option is unknown or for another model.

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
        hidden_dims: tuple[int, ...] = (400,),
        activation: Literal["relu", "tanh", "silu", "gelu"] = "relu",
    ) -> None:
        super().__init__(model)
        if flows < 0 or channels < 0:
            raise ValueError(f"flows={flows} and channels={channels} must be 0 or more.")
        self.residual = residual
        self._features: tuple[Tensor, ...] = ()
        tower = (channels, cells_per_group, cells_per_block, attention)
        hidden_dims = tuple(hidden_dims)
        check_options(model, (*tower, flows), (hidden_dims, activation))
        self.names: list[str]
        self.above: list[tuple[str, ...]]
        self.samplers: Any
        self.combines: Any
        if isinstance(model, NVAE):
            self._build_published(model, tower_of(model, *tower))
        else:
            self._build(model, hidden_dims, activation)
        self.flows: Any = nn.ModuleList(
            nn.ModuleList(FlowPair(self.model.latents) for _ in range(flows)) for _ in self.names
        )
        self.like_model()

    def _build_published(self, model: NVAE, tower: Any) -> None:
        self.tower, widths = tower, tower.widths
        self.names = [f"z{i}" for i in range(len(widths))]
        self.above = [(f"h{i}",) for i in range(1, len(widths))]
        sampler, combine = (lean_sampler, lean_combine) if model.lean else (conv3, conv1)
        self.samplers = nn.ModuleList(sampler(width, 2 * model.latents) for width in widths)
        self.combines = nn.ModuleList(
            combine(group.sampler.in_channels, width)
            for group, width in zip(model.groups, widths[1:], strict=True)
        )

    def _build(self, model: nn.Module, hidden_dims: tuple[int, ...], activation: str) -> None:
        found = latents_of(model, "top_down", fixed=False)
        latents = {name: latent.shape for name, latent in found.items()}
        self.names = list(latents)
        _, *above = sites_above(model, latents)
        self.above = [tuple(sites) for sites in above]
        widths = numbers = [2 * shape.numel() for shape in latents.values()]
        samplers: list[nn.Module] = [nn.Identity() for _ in numbers]
        if hidden_dims:
            widths, make = [hidden_dims[-1]] * len(numbers), activation_of(activation)
            samplers = [nn.Sequential(make(), nn.Linear(widths[0], number)) for number in numbers]
        self.tower = FlatTower(self.context_dim, hidden_dims[:-1], widths, activation)
        self.samplers = nn.ModuleList(samplers)
        self.combines = nn.ModuleList(map(ConcatLinear, above, widths[1:]))
        if not hidden_dims:  # at random weights an affine scale is far too large for some x
            for parameter in (*self.tower.parameters(), *self.combines.parameters()):
                nn.init.zeros_(parameter)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        self._features = self.seen(batch)
        try:
            return super().forward(batch)
        finally:
            self._features = ()

    def seen_above(self, name: str) -> Tensor:
        """A feature as it is, a latent in its coordinates."""
        site = self.trace.nodes[name]
        q, value = site["fn"], site["value"]
        return q.coordinates_of(value) if isinstance(q, Pushforward) else value

    def feature_of(self, name: str) -> tuple[int, Tensor]:
        """The number of a latent, and what its posterior sees of x and of the way down."""
        i = self.names.index(name)
        feature = self._features[i]
        if i:
            above = map(self.seen_above, self.above[i - 1])
            feature = feature + self.combines[i - 1](*above)
        return i, feature

    def relative(self, i: int, prior: Any, numbers: Tensor) -> Any:
        """A posterior of latent i of an NVAE, from mu and log sigma before the correction."""
        mu, log_sigma = numbers.chunk(2, 1)
        if i and self.residual:
            prior_mu, prior_log_sigma = prior.base_dist.raw
            mu, log_sigma = mu + prior_mu, log_sigma + prior_log_sigma
        return SoftNormal(mu, log_sigma).to_event(3)

    def get_posterior(self, name: str, prior: Any) -> Any:
        i, feature = self.feature_of(name)
        numbers = self.samplers[i](feature)
        if not isinstance(self.model, NVAE):
            return corrected(prior, numbers, self.residual)
        posterior = self.relative(i, prior, numbers)
        flows = list(self.flows[i])
        return dist.TransformedDistribution(posterior, flows) if flows else posterior
