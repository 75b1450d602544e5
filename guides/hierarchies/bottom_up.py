"""A hierarchy's latents inferred from the image alone, each group by itself."""

import pyro
from torch import Tensor, nn

from guides.guide import Guide
from guides.hierarchies.tower import features, tower_of
from ppl_models.batch import Batch, data_plate
from ppl_models.nvae import NVAE
from ppl_models.nvae.distributions import SoftNormal
from ppl_models.nvae.layers import Conv

__all__ = ["BottomUp"]


class BottomUp(Guide):
    r"""Mean field across groups: no group sees what was drawn for another.

    .. math::
        q(z \mid x) = \prod_l \mathcal N(z_l; \mu_l(x), \sigma_l^2(x))

    What it lacks against ``top_down`` is the model's own way down.

    Args:
        model: an NVAE.
        channels: channels of the encoder at the size of the image; 0 uses the decoder's.
        cells_per_group: encoder cells per group.
        cells_per_block: encoder cells per block between the image and the finest group.
        attention: use squeeze-and-excitation in every encoder cell.

    Raises:
        ValueError: If the model is not an NVAE, or ``channels`` is negative.

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
    ) -> None:
        super().__init__(model)
        if not isinstance(model, NVAE):
            raise ValueError(f"bottom_up needs an NVAE, not {type(model).__name__}.")
        if channels < 0:
            raise ValueError(f"channels={channels} must be 0 or more.")
        channels = channels or model.channels
        self.tower = tower_of(model, channels, cells_per_group, cells_per_block, attention)
        self.samplers = nn.ModuleList(
            Conv(width, 2 * model.latents, 3) for width in self.tower.widths
        )
        self.like_model()

    def features(self, batch: Batch) -> tuple[Tensor, ...]:
        """What the way up leaves of x for every group, coarse to fine."""
        return features(self.tower, batch)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        features = self.seen(batch)
        with data_plate(batch):
            return {
                f"z{i}": pyro.sample(
                    f"z{i}", SoftNormal(*sampler(feature).chunk(2, 1)).to_event(3)
                )
                for i, (sampler, feature) in enumerate(zip(self.samplers, features, strict=True))
            }
