"""The encoder from an image to features for every group of latents, shared by NVAE's guides."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from guides.guide import Guide, repeated
from guides.hierarchies.lean_tower import LeanTower
from ppl_models.batch import Batch
from ppl_models.nvae import NVAE
from ppl_models.nvae.cells import EncoderCell, cells
from ppl_models.nvae.layers import Conv


class Tower(nn.Module):
    """NVAE's encoder: a feature map for every group of latents; its options are ``TopDown``'s.

    References:
        Vahdat & Kautz (2020), the bottom-up network.
    """

    def __init__(
        self,
        model: NVAE,
        channels: int,
        cells_per_group: int,
        cells_per_block: int,
        attention: bool,
    ) -> None:
        super().__init__()
        if channels < 2:
            raise ValueError(
                f"channels={channels} must be at least 2, since the encoder splits them."
            )
        self.stem = Conv(model.data_shape[0], channels, 3)
        pre: list[nn.Module] = []
        width = channels
        for _ in range(model.blocks):
            pre += [EncoderCell(width, attention=attention) for _ in range(cells_per_block - 1)]
            pre.append(EncoderCell(width, down=True, attention=attention))
            width *= 2
        self.pre = nn.Sequential(*pre)
        self.groups, self.downs, self.widths = nn.ModuleList(), nn.ModuleDict(), []
        number = 0 if model.vanilla else cells_per_group
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


def tower_of(
    model: NVAE, channels: int, cells_per_group: int, cells_per_block: int, attention: bool
) -> Tower | LeanTower:
    """A tower like the model's networks; a lean one ignores cells per group and attention.

    Raises:
        ValueError: If there are fewer cells per block than one, or fewer per group than none.
    """
    if cells_per_block < 1 or cells_per_group < 0:
        raise ValueError(
            f"cells_per_block={cells_per_block} must be at least 1, and "
            f"cells_per_group={cells_per_group} not negative."
        )
    channels = channels or model.channels
    if model.lean:
        return LeanTower(model, channels, cells_per_block)
    return Tower(model, channels, cells_per_group, cells_per_block, attention)


class TowerGuide(Guide):
    """A guide whose features are a tower's, of the image of an NVAE or of any other context."""

    tower: Any

    def context(self, batch: Batch) -> Tensor:
        of_image = isinstance(self.model, NVAE)
        return self.real(batch.only) if of_image else super().context(batch)

    def features(self, batch: Batch) -> tuple[Tensor, ...]:
        """Features of x for every latent, coarse to fine; repeated rows are encoded once."""
        context = self.context(batch)
        return repeated(self.tower(context[: len(context) // batch.repeats]), batch.repeats)
