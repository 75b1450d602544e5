"""Lean networks of a hierarchy that a laptop can train: 3x3 convolutions and matrix products.

These networks have no attention and no feature map at full image size: a convolution of stride
two reads the image, and the last step rearranges channels into pixels. Every convolution of a
residual branch reads channels of mean square one, whatever the size of the state.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ppl_models.nvae.cells import ResidualCell
from ppl_models.nvae.layers import PlainConv


class Pointwise(PlainConv):
    """A 1x1 convolution as one matrix product over channels.

    With few input or output channels, the gradient of a convolution takes many times as long on a
    CPU.

    Args:
        channels: number of input channels.
        out_channels: number of output channels.
        scale: factor on the initial weights; at 0 the output starts at zero.
    """

    def __init__(self, channels: int, out_channels: int, scale: float = 1.0) -> None:
        super().__init__(channels, out_channels, 1, bias=True)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.mul_(scale)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.movedim(1, -1), self.weight[..., 0, 0], self.bias).movedim(-1, 1)


class Stem(PlainConv):
    """A 5x5 convolution of stride two, as a matrix product of the image's patches."""

    def __init__(self, colours: int, channels: int) -> None:
        super().__init__(colours, channels, 5, stride=2, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2] // 2, x.shape[-1] // 2
        patches = F.unfold(x, 5, padding=2, stride=2).mT  # [B, pixels, 25 colours]
        h = F.linear(patches, self.weight.flatten(1), self.bias)
        return h.unflatten(1, (height, width)).movedim(-1, 1)


class RMSNormSwish(nn.Module):
    """t sigmoid(t) of x over the root mean square of its channels, pixel by pixel.

    References:
        Zhang & Sennrich (2019), root mean square normalization.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x * (x.square().mean(1, keepdim=True) + 1e-4).rsqrt())


class LeanCell(ResidualCell):
    """x + W swish(3x3 convolution of swish(x)), x being normalised in the branch.

    Args:
        channels: number of input and output channels.
        scale: factor on the initial W.
    """

    def __init__(self, channels: int, scale: float) -> None:
        body = nn.Sequential(
            RMSNormSwish(),
            PlainConv(channels, channels, 3, bias=True),
            nn.SiLU(),
            Pointwise(channels, channels, scale),
        )
        super().__init__(body, nn.Identity(), nn.Identity(), weight=1.0)


def downsample(channels: int) -> nn.Sequential:
    """Halve the map and double the channels."""
    return nn.Sequential(RMSNormSwish(), PlainConv(channels, 2 * channels, 3, stride=2, bias=True))


def upsample(channels: int) -> nn.Sequential:
    """Double the map and halve the channels by rearranging channels into pixels.

    References:
        Shi et al. (2016), sub-pixel convolution.
    """
    return nn.Sequential(RMSNormSwish(), Pointwise(channels, 2 * channels), nn.PixelShuffle(2))


class Head(nn.Module):
    """The likelihood's parameters at twice the map's size, with a bias per pixel.

    Args:
        channels: number of channels of the state.
        outputs: number of outputs per pixel.
        sides: height and width of the image.
    """

    def __init__(self, channels: int, outputs: int, sides: Sequence[int]) -> None:
        super().__init__()
        self.pixels = nn.Sequential(Pointwise(channels, 4 * outputs, 0.1), nn.PixelShuffle(2))
        self.bias = nn.Parameter(torch.zeros(outputs, *sides))

    def forward(self, state: Tensor) -> Tensor:
        return self.pixels(state) + self.bias


class Add(nn.Module):
    """A state plus W z."""

    def __init__(self, channels: int, latents: int) -> None:
        super().__init__()
        self.project = Pointwise(latents, channels)

    def forward(self, state: Tensor, z: Tensor) -> Tensor:
        return self.project(z) + state  # in this order the sum is stored channels-last
