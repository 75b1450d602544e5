"""Volume-preserving autoregressive flows over a map of latents: z - mu(z), in raster order."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from pyro.distributions import TransformModule
from torch import Tensor, nn
from torch.distributions import constraints

from ppl_models.nvae.layers import Conv

HIDDEN = 6
"""Hidden channels per latent channel."""


def spatial_mask(size: int, mirrored: bool, centre: Tensor) -> Tensor:
    """What a kernel may see, ``[out, in, size, size]``: rows above, pixels to the left.

    Args:
        size: side of the kernel, odd.
        mirrored: whether it sees rows below and pixels to the right instead.
        centre: one where a channel may see another at the same pixel, ``[out, in]``.
    """
    mask = torch.zeros(*centre.shape, size, size)
    half = size // 2
    mask[..., :half, :] = 1
    mask[..., half, :half] = 1
    mask[..., half, half] = centre
    return mask.flip((-2, -1)) if mirrored else mask


class Shift(nn.Module):
    """mu(z), where pixel and channel see only what comes before them.

    Args:
        channels: number of channels of z.
        mirrored: whether the raster order is reversed; that of the channels stays.
    """

    def __init__(self, channels: int, mirrored: bool) -> None:
        super().__init__()
        latent = torch.arange(channels)
        hidden = latent.repeat_interleave(HIDDEN)
        lower = (latent[None] < hidden[:, None]).float()  # a hidden channel sees lower latents
        own = torch.ones(len(hidden), 1)
        up_to = (hidden[None] <= latent[:, None]).float()
        wide = HIDDEN * channels
        self.first = Conv(channels, wide, 3, bias=False, mask=spatial_mask(3, mirrored, lower))
        self.second = Conv(
            wide, wide, 5, groups=wide, bias=False, mask=spatial_mask(5, mirrored, own)
        )
        self.last = Conv(wide, channels, 1, mask=up_to[..., None, None], gain=-math.log(10))

    def forward(self, z: Tensor) -> Tensor:
        h = F.elu(self.second(F.elu(self.first(z))))
        return self.last(F.elu(h))  # twice, as in the reference


class FlowPair(TransformModule):
    """Two shifts, the second in reverse raster order; the determinant is one.

    The inverse is only known for the last draw (from Pyro's cache), which is all that an objective
    needs.

    References:
        Kingma et al. (2016), inverse autoregressive flow; Vahdat & Kautz (2020), with
        constant volume.
    """

    domain = codomain = constraints.independent(constraints.real, 3)
    bijective = True

    def __init__(self, channels: int) -> None:
        super().__init__(cache_size=1)
        self.shifts = nn.ModuleList([Shift(channels, False), Shift(channels, True)])

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the last draw, which holds a graph."""
        return {**self.__dict__, "_cached_x_y": (None, None), "_inv": None}

    def _call(self, z: Tensor) -> Tensor:
        for shift in self.shifts:
            z = z - shift(z)
        return z

    def _inverse(self, z: Tensor) -> Tensor:
        raise NotImplementedError("a flow's density is known only at its own last draw.")

    def log_abs_det_jacobian(self, z: Tensor, y: Tensor) -> Tensor:
        return z.new_zeros(z.shape[:-3])
