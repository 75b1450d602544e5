"""The layers NVAE is made of: weight-normalised convolutions, batch norm with swish, attention."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Conv(nn.Conv2d):
    r"""A convolution with weight normalization per output channel.

    .. math::
        W = e^{g}\, w / (\lVert w \rVert + 10^{-5})

    Args:
        channels: number of input channels.
        out_channels: number of output channels.
        kernel_size: odd; the padding keeps the size of the image.
        stride: stride of the kernel.
        groups: number of groups of channels.
        bias: whether there is a bias.
        mask: multiplies w before normalization; zero where the kernel must not look.
        gain: added to the initial g.

    References:
        Salimans & Kingma (2016), weight normalisation; Vahdat & Kautz (2020), its use here.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
        bias: bool = True,
        mask: Tensor | None = None,
        gain: float = 0.0,
    ) -> None:
        super().__init__(
            channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=bias
        )
        self.mask: Tensor | None
        self.register_buffer("mask", mask, persistent=False)
        norm = self._norm(self.masked_weight())
        self.log_weight_norm = nn.Parameter((norm + 0.01).log().detach() + gain)

    def masked_weight(self) -> Tensor:
        return self.weight if self.mask is None else self.weight * self.mask

    @staticmethod
    def _norm(weight: Tensor) -> Tensor:
        return weight.square().sum((1, 2, 3), keepdim=True).sqrt()

    def effective_weight(self) -> Tensor:
        """The normalized kernel, ``[out, in / groups, k, k]``."""
        weight = self.masked_weight()
        return self.log_weight_norm.exp() * weight / (self._norm(weight) + 1e-5)

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.effective_weight(), self.bias)


class PlainConv(nn.Conv2d):
    """A convolution without weight normalisation, and without bias between batch norms."""

    def __init__(
        self,
        channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        padding = kernel_size // 2
        super().__init__(
            channels, out_channels, kernel_size, stride, padding, groups=groups, bias=bias
        )

    def effective_weight(self) -> Tensor:
        return self.weight


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation with NVAE's momentum."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-5, momentum=0.05)


class BatchNormSwish(BatchNorm):
    """Batch normalisation, then t sigmoid(t)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(super().forward(x))


class SqueezeExcite(nn.Module):
    """Multiply every channel by a number in (0, 1) computed from all channels' means.

    References:
        Hu, Shen & Sun (2018).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 16, 4)
        self.layers = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.layers(x.mean((2, 3)))[..., None, None]


class SkipDown(nn.Module):
    """Halve the image and double the channels: 1x1 convolutions of every other pixel, shifted.

    The pixels are picked before the convolution instead of by its stride: torch 2.15 on a CPU
    corrupts memory at strided 1x1 convolutions of few channels stored channels-last.
    """

    SHIFTS = ((0, 0), (1, 1), (0, 1), (1, 0))

    def __init__(self, channels: int) -> None:
        super().__init__()
        quarter = 2 * channels // 4
        outputs = (quarter, quarter, quarter, 2 * channels - 3 * quarter)
        self.convs = nn.ModuleList(Conv(channels, out, 1) for out in outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(x)
        parts = [
            conv(x[:, :, row::2, column::2])
            for conv, (row, column) in zip(self.convs, self.SHIFTS, strict=True)
        ]
        return torch.cat(parts, 1)


class SkipUp(nn.Module):
    """Double the image and halve the channels: bilinear, corners kept, then 1x1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv(channels, channels // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True))
