"""The encoder of a lean hierarchy; groups of the same size share their map."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ppl_models.nvae import NVAE
from ppl_models.nvae.cells import cells
from ppl_models.nvae.lean import LeanCell, Pointwise, Stem, downsample


class LeanTower(nn.Module):
    """A convolution of stride two, then cells at every size; a projection for every group.

    Args:
        model: a lean NVAE.
        channels: channels at the size of the image; the first map has half the size and twice as
            many.
        number: number of cells at every size.

    Attributes:
        widths: channels of every group's features, as in the map that they come from.
    """

    def __init__(self, model: NVAE, channels: int, number: int) -> None:
        super().__init__()
        halvings = model.blocks + len(model.groups_per_scale) - 1
        scale = (2 * halvings * number) ** -0.5
        widths = [2 * channels * 2**i for i in range(halvings)]
        self.stem = Stem(model.data_shape[0], widths[0])
        self.maps = nn.ModuleList([cells(LeanCell, number, widths[0], scale=scale)])
        for width in widths[1:]:
            halve = downsample(width // 2)
            self.maps.append(nn.Sequential(halve, cells(LeanCell, number, width, scale=scale)))
        self.groups_per_scale = model.groups_per_scale
        of_groups = self.by_group(widths)
        self.projections = nn.ModuleList(Pointwise(width, widths[0]) for width in of_groups)
        self.widths = [widths[0]] * len(of_groups)

    def by_group(self, by_map: list[Any]) -> list[Any]:
        """Repeat one value per map (fine to coarse) for every group, the top group first."""
        coarsest_first = zip(reversed(by_map), self.groups_per_scale, strict=False)
        return [value for value, number in coarsest_first for _ in range(number)]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features ``[B, channels, h, w]`` of all groups, the top one's first."""
        h, maps = self.stem(2 * x - 1), []
        for part in self.maps:
            h = part(h)
            maps.append(F.silu(h))
        pairs = zip(self.projections, self.by_group(maps), strict=True)
        return [projection(h) for projection, h in pairs]
