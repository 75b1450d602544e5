"""A hierarchy's latents inferred from the image alone, each group by itself."""

from typing import Any, Literal

import pyro
from torch import Tensor, nn

from guides.hierarchies.nested import FlatTower, check_options, gaussian
from guides.hierarchies.tower import TowerGuide, tower_of
from guides.latents import ByName, latents_of
from ppl_models.batch import Batch, data_plate
from ppl_models.nvae import NVAE
from ppl_models.nvae.distributions import SoftNormal
from ppl_models.nvae.layers import Conv


class BottomUp(TowerGuide):
    r"""Mean field across groups: no group sees what was drawn for another.

    .. math::
        q(z \mid x) = \prod_l \mathcal N(z_l; \mu_l(x), \sigma_l^2(x))

    Unlike ``top_down``, it does not use the latents above. An NVAE has the published tower. For
    any other model an MLP sees x, and maps of latents are flattened. Under a prior with
    constrained support, the Gaussian is defined in unconstrained coordinates.

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
        hidden_dims: for other models: widths of the MLP's hidden layers.
        activation: for other models: activation of the MLP, a name in ``ACTIVATIONS``.

    Raises:
        ValueError: If a latent has no fixed unconstrained coordinates, ``channels`` or cells are
            too few, or an option is unknown or for another model.

    References:
        Vahdat & Kautz (2020) call it bottom-up inference.
    """

    def __init__(
        self,
        model: nn.Module,
        channels: int = 0,
        cells_per_group: int = 1,
        cells_per_block: int = 3,
        attention: bool = True,
        hidden_dims: tuple[int, ...] = (400,),
        activation: Literal["relu", "tanh", "silu", "gelu"] = "relu",
    ) -> None:
        super().__init__(model)
        if channels < 0:
            raise ValueError(f"channels={channels} must be 0 or more.")
        self.coordinates: Any
        samplers: list[nn.Module]
        self.names: list[str]
        tower = (channels, cells_per_group, cells_per_block, attention)
        hidden_dims = tuple(hidden_dims)
        check_options(model, tower, (hidden_dims, activation))
        if isinstance(model, NVAE):
            self.tower = tower_of(model, *tower)
            samplers = [Conv(width, 2 * model.latents, 3) for width in self.tower.widths]
            self.names = [f"z{i}" for i in range(len(samplers))]
        else:
            self.coordinates = ByName(latents_of(model, "bottom_up"))
            self.names = list(self.coordinates)
            numbers = [2 * latent.shape.numel() for latent in self.coordinates.values()]
            self.tower = FlatTower(self.context_dim, hidden_dims, numbers, activation)
            samplers = [nn.Identity() for _ in numbers]
        self.samplers = nn.ModuleList(samplers)
        self.like_model()

    def posterior(self, name: str, numbers: Tensor) -> Any:
        """q of one latent, from the numbers that describe it."""
        if isinstance(self.model, NVAE):
            mu, log_sigma = numbers.chunk(2, 1)
            return SoftNormal(mu, log_sigma).to_event(3)
        latent = self.coordinates[name]
        return latent.push(gaussian(numbers, latent.shape))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        parts = zip(self.names, self.samplers, self.seen(batch), strict=True)
        with data_plate(batch):
            return {
                name: pyro.sample(name, self.posterior(name, sampler(feature)))
                for name, sampler, feature in parts
            }
