"""The networks of a hierarchy: as published, or lean ones for a laptop."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from torch import nn

from ppl_models.nvae.cells import Combine, ConvCell, MBConvCell, cells
from ppl_models.nvae.layers import Conv
from ppl_models.nvae.lean import Add, Head, LeanCell, Pointwise, upsample


class Published(NamedTuple):
    """Residual cells with batch norms; every state is a 1x1 convolution of the last one and z.

    References:
        Vahdat & Kautz (2020).
    """

    cells_per_group: int
    cells_per_block: int
    attention: bool
    depthwise: bool

    @property
    def cell(self) -> Any:
        return MBConvCell if self.depthwise else ConvCell

    @property
    def post_cell(self) -> Any:
        return partial(MBConvCell, expansion=3) if self.depthwise else ConvCell

    def combine_top(self, width: int, latents: int, vanilla: bool) -> nn.Module:
        return Conv(latents, width, 1) if vanilla else Combine(width, latents)

    def group(self, width: int, latents: int) -> tuple[nn.Module, nn.Module, nn.Module]:
        """Cells, the prior's convolution, and the module that combines state and z."""
        before = cells(self.cell, self.cells_per_group, width, attention=self.attention)
        return before, Conv(width, 2 * latents, 1), Combine(width, latents)

    def up(self, width: int) -> nn.Module:
        return self.cell(width, up=True, attention=self.attention)

    def post(self, width: int, blocks: int) -> nn.Sequential:
        """The layers from the finest latents to the size of the image."""
        post: list[nn.Module] = []
        for _ in range(blocks):
            post.append(self.post_cell(width, up=True, attention=self.attention))
            width //= 2
            more = range(self.cells_per_block - 1)
            post += [self.post_cell(width, attention=self.attention) for _ in more]
        return nn.Sequential(*post)

    def image(self, width: int, outputs: int, sides: Sequence[int]) -> nn.Module:
        return Conv(width, outputs, 3)


class Lean(NamedTuple):
    """Residual cells with one 3x3 convolution, an additive state, a head that shuffles pixels.

    Every pixel is normalised by itself, so that no image depends on the others of its batch. The
    last weights of the cells start small and those of the priors at zero.

    References:
        Kingma et al. (2016), Child (2021): additive states and small initial weights.
    """

    cells_per_group: int
    cells_per_block: int
    scale: float

    def combine_top(self, width: int, latents: int, vanilla: bool) -> nn.Module:
        return Add(width, latents)

    def group(self, width: int, latents: int) -> tuple[nn.Module, nn.Module, nn.Module]:
        """Cells, the prior's convolution, and the module that adds z to the state."""
        before = cells(LeanCell, self.cells_per_group, width, scale=self.scale)
        return before, Pointwise(width, 2 * latents, 0.0), Add(width, latents)

    def up(self, width: int) -> nn.Module:
        return upsample(width)

    def post(self, width: int, blocks: int) -> nn.Sequential:
        """The layers from the finest latents to half the size of the image."""
        post: list[nn.Module] = [cells(LeanCell, self.cells_per_block, width, scale=self.scale)]
        for _ in range(blocks - 1):
            post.append(self.up(width))
            width //= 2
            post.append(cells(LeanCell, self.cells_per_block, width, scale=self.scale))
        return nn.Sequential(*post)

    def image(self, width: int, outputs: int, sides: Sequence[int]) -> nn.Module:
        return Head(2 * width, outputs, sides)


Parts = Published | Lean
