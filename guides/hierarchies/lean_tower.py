"""The way up of a lean hierarchy: no norms, and every map shared by the groups of its size."""

from torch import Tensor, nn

from ppl_models.nvae import NVAE
from ppl_models.nvae.lean import Pointwise, Stem, halve, lean_cells

__all__ = ["LeanTower"]


class LeanTower(nn.Module):
    """A convolution of stride two, then cells at every size; a projection for every group.

    Args:
        model: a lean NVAE.
        channels: at the size of the image; the first map is half as large, with twice as many.
        number: of cells at every size.

    Attributes:
        widths: channels of every group's features, the first map's.
    """

    def __init__(self, model: NVAE, channels: int, number: int) -> None:
        super().__init__()
        halvings = model.blocks + len(model.groups_per_scale) - 1
        scale = (2 * halvings * number) ** -0.5
        width = hidden = 2 * channels
        self.stem = Stem(model.data_shape[0], width)
        self.maps = nn.ModuleList([lean_cells(number, width, scale)])
        for _ in range(halvings - 1):
            self.maps.append(nn.Sequential(halve(width), lean_cells(number, 2 * width, scale)))
            width *= 2
        groups = reversed(model.groups_per_scale)
        sizes = [2**scale for scale, count in enumerate(groups) for _ in range(count)]
        first = 2 ** (model.blocks - 1) * hidden
        self.projections = nn.ModuleList(Pointwise(first * size, hidden) for size in sizes)
        self.groups_per_scale = model.groups_per_scale
        self.widths = [hidden] * len(sizes)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features ``[B, channels, h, w]`` of all groups, the top one's first."""
        h, maps = self.stem(2 * x - 1), []
        for part in self.maps:
            h = part(h)
            maps.append(nn.functional.silu(h))
        of_scales = zip(maps[::-1], self.groups_per_scale, strict=False)
        shared = [h for h, number in of_scales for _ in range(number)]
        pairs = zip(self.projections[::-1], shared, strict=True)
        return [projection(h) for projection, h in pairs]
