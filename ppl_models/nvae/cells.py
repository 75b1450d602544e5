"""NVAE's residual cells: x + 0.1 attention(body(x)), keeping, halving or doubling the size."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ppl_models.nvae.layers import (
    BatchNorm,
    BatchNormSwish,
    Conv,
    PlainConv,
    SkipDown,
    SkipUp,
    SqueezeExcite,
)


class ResidualCell(nn.Module):
    """skip(x) + weight attention(body(x))."""

    def __init__(
        self, body: nn.Module, skip: nn.Module, attention: nn.Module, weight: float = 0.1
    ) -> None:
        super().__init__()
        self.skip, self.body, self.attention, self.weight = skip, body, attention, weight

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(self.skip(x), self.attention(self.body(x)), alpha=self.weight)


class EncoderCell(ResidualCell):
    """Twice batch norm, swish and a 3x3 convolution.

    Args:
        channels: number of input channels.
        down: whether to halve the image and double the channels.
        attention: whether to use squeeze-and-excitation.
    """

    def __init__(self, channels: int, down: bool = False, attention: bool = True) -> None:
        out = 2 * channels if down else channels
        body = nn.Sequential(
            BatchNormSwish(channels),
            Conv(channels, out, 3, stride=2 if down else 1),
            BatchNormSwish(out),
            Conv(out, out, 3),
        )
        super().__init__(
            body,
            SkipDown(channels) if down else nn.Identity(),
            SqueezeExcite(out) if attention else nn.Identity(),
        )


class MBConvCell(ResidualCell):
    """An inverted bottleneck: expand, a 5x5 convolution per channel, project.

    Args:
        channels: number of input channels.
        expansion: number of hidden channels per input channel.
        up: whether to double the image and halve the channels.
        attention: whether to use squeeze-and-excitation.

    References:
        Sandler et al. (2018), MobileNetV2.
    """

    def __init__(
        self, channels: int, expansion: int = 6, up: bool = False, attention: bool = True
    ) -> None:
        out = channels // 2 if up else channels
        hidden = expansion * channels
        body = nn.Sequential(
            nn.UpsamplingNearest2d(scale_factor=2) if up else nn.Identity(),
            BatchNorm(channels),
            PlainConv(channels, hidden, 1),
            BatchNormSwish(hidden),
            PlainConv(hidden, hidden, 5, groups=hidden),
            BatchNormSwish(hidden),
            PlainConv(hidden, out, 1),
            BatchNorm(out),
        )
        super().__init__(
            body,
            SkipUp(channels) if up else nn.Identity(),
            SqueezeExcite(out) if attention else nn.Identity(),
        )


class ConvCell(ResidualCell):
    """The encoder's cell on the way down: cheaper than a depthwise one on a CPU.

    Args:
        channels: number of input channels.
        up: whether to double the image and halve the channels.
        attention: whether to use squeeze-and-excitation.
    """

    def __init__(self, channels: int, up: bool = False, attention: bool = True) -> None:
        out = channels // 2 if up else channels
        body = nn.Sequential(
            BatchNormSwish(channels),
            Conv(channels, out, 3),
            nn.UpsamplingNearest2d(scale_factor=2) if up else nn.Identity(),
            BatchNormSwish(out),
            Conv(out, out, 3),
        )
        super().__init__(
            body,
            SkipUp(channels) if up else nn.Identity(),
            SqueezeExcite(out) if attention else nn.Identity(),
        )


class Combine(nn.Module):
    """A 1x1 convolution of a state concatenated with another tensor, back to the state's width."""

    def __init__(self, channels: int, beside: int) -> None:
        super().__init__()
        self.conv = Conv(channels + beside, channels, 1)

    def forward(self, state: Tensor, beside: Tensor) -> Tensor:
        return self.conv(torch.cat([state, beside], 1))


def cells(
    kind: Callable[..., nn.Module], number: int, channels: int, **options: float
) -> nn.Sequential:
    """A sequence of cells."""
    return nn.Sequential(*(kind(channels, **options) for _ in range(number)))
