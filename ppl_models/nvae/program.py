"""The generative story of NVAE: a state flows down, every group of latents adds to it."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ppl_models.batch import Batch, data_plate
from ppl_models.nvae.distributions import (
    CroppedBernoulli,
    PixelNormal,
    ReferenceLogisticMixture,
    SoftNormal,
)
from ppl_models.nvae.parts import Lean, Parts, Published
from ppl_models.program import Program


def adaptive_groups(scales: int, finest: int, minimum: int = 1) -> tuple[int, ...]:
    """Groups per scale, coarse to fine; each scale has half as many as the next finer one."""
    groups = [finest]
    for _ in range(scales - 1):
        groups.append(max(minimum, groups[-1] // 2))
    return tuple(reversed(groups))


class Group(nn.Module):
    """One group of latents below the top.

    Args:
        cells: from the state to the features of this group's prior.
        sampler: the prior's mu and log sigma from a state.
        combine: the next state from a state and z.
    """

    def __init__(self, cells: nn.Module, sampler: nn.Module, combine: nn.Module) -> None:
        super().__init__()
        self.cells, self.sampler, self.combine = cells, sampler, combine

    def prior(self, state: Tensor) -> dist.Distribution:
        """p(z | coarser groups), event ``[L, h, w]``."""
        return SoftNormal(*self.sampler(F.elu(state)).chunk(2, 1)).to_event(3)


class NVAE(Program):
    r"""A hierarchy of latent maps, from coarse to fine, above an image.

    .. math::
        z_0 &\sim \mathcal N(0, 1.01^2) \\
        z_l \mid z_{<l} &\sim \mathcal N(\mu_l(s_l), \sigma_l^2(s_l)), \quad
            s_{l+1} = \operatorname{cells}(\operatorname{combine}(s_l, z_l)) \\
        x \mid z &\sim p(x \mid \operatorname{post}(s))

    Args:
        data_shape: C, H and W; the sides divisible by 2^(blocks + scales - 1).
        groups: number of latent groups per scale, coarse to fine.
        latents: channels of every latent group.
        channels: channels of the state at the size of the image; doubled at every halving.
        cells_per_group: cells before the prior of every group except the top one.
        blocks: number of upsampling blocks between the finest latents and the image.
        cells_per_block: cells in each of these blocks; the first one upsamples.
        attention: use squeeze-and-excitation in every cell.
        depthwise: use inverted bottleneck cells, as published; otherwise two 3x3 convolutions.
        mixture: number of logistics per pixel of RGB images (J); 1 gives a normal distribution.
        bits: bits per channel of RGB images.
        crop: border of grey images, in pixels, that the likelihood leaves out.
        lean: use small networks without attention, with the finest map at half the size of the
            image, instead of the published ones; attention and depthwise then have no effect.

    Raises:
        ValueError: If ``data_shape`` is not an image of 1 or 3 channels with sides divisible as
            above; if a number of groups, latents, channels, cells, logistics or bits is below 1;
            if there are no groups or ``blocks`` is negative; if ``crop`` is negative or leaves no
            pixel; if lean networks have no block.

    References:
        Vahdat & Kautz (2020). With a single group there are no towers ("vanilla").
    """

    vectorises = False  # convolutions and batch norms take one leading dimension

    def __init__(
        self,
        data_shape: tuple[int, ...] = (1, 32, 32),
        groups: tuple[int, ...] = (5, 10),
        latents: int = 20,
        channels: int = 32,
        cells_per_group: int = 1,
        blocks: int = 2,
        cells_per_block: int = 3,
        attention: bool = True,
        depthwise: bool = True,
        mixture: int = 10,
        bits: int = 8,
        crop: int = 2,
        lean: bool = False,
    ) -> None:
        super().__init__()
        if not groups or blocks < 0:
            raise ValueError(f"groups={groups} must not be empty, blocks={blocks} not negative.")
        halvings = blocks + len(groups) - 1
        _check_image(data_shape, halvings, crop)
        colours, *sides = data_shape
        if min(*groups, latents, channels, cells_per_group, cells_per_block, mixture, bits) < 1:
            raise ValueError(
                f"groups={groups}, latents={latents}, channels={channels}, cells_per_group="
                f"{cells_per_group}, cells_per_block={cells_per_block}, mixture={mixture} and "
                f"bits={bits} must be at least 1."
            )
        if lean and blocks < 1:
            raise ValueError(f"blocks={blocks} must be at least 1 with lean networks.")
        self.data_shape, self.groups_per_scale = tuple(data_shape), tuple(groups)
        self.latents, self.channels = latents, channels
        self.blocks, self.mixture, self.bits, self.crop = blocks, mixture, bits, crop
        width = channels * 2**halvings
        top = [side // 2**halvings for side in sides]
        self.top = nn.Parameter(torch.rand(width, *top))  # unused in the vanilla layout
        self.vanilla = sum(groups) == 1 and not lean
        self.lean = lean
        self.largest_map = (3 if depthwise else 1) * channels * sides[0] * sides[1]
        parts: Parts = Published(cells_per_group, cells_per_block, attention, depthwise)
        if lean:
            parts = Lean(cells_per_group, cells_per_block, scale=sum(groups) ** -0.5)
        self.combine_top = parts.combine_top(width, latents, self.vanilla)
        self.groups: Any = nn.ModuleList()
        self.ups = nn.ModuleDict()
        for scale, number in enumerate(groups):
            if scale:
                width //= 2
            for _ in range(number - (scale == 0)):
                self.groups.append(Group(*parts.group(width, latents)))
            if scale < len(groups) - 1:
                self.ups[str(len(self.groups))] = parts.up(width)
        outputs = 1 if colours == 1 else 6 if mixture == 1 else 10 * mixture
        self.post = parts.post(width, blocks)
        self.image = parts.image(channels, outputs, sides)

    @property
    def measure(self) -> str:
        """Whether p(x | z) is a density or a probability."""
        return "density" if self.data_shape[0] == 3 and self.mixture == 1 else "probability"

    @property
    def latent_shapes(self) -> list[tuple[int, int, int]]:
        """The event of every group, coarse to fine."""
        halvings = self.blocks + len(self.groups_per_scale) - 1
        return [
            (self.latents, *(side // 2 ** (halvings - scale) for side in self.data_shape[1:]))
            for scale, number in enumerate(self.groups_per_scale)
            for _ in range(number)
        ]

    def prior(self) -> dist.Distribution:
        """p(z0): no state has been seen, so mu and log sigma are zero (sigma is 1.01)."""
        zero = self.top.new_zeros(self.latent_shapes[0])
        return SoftNormal(zero, zero).to_event(3)

    def likelihood(self, state: Tensor) -> Any:
        """p(x | z), event ``data_shape``."""
        parameters = self.image(F.elu(self.post(state)))
        if self.data_shape[0] == 1:
            return CroppedBernoulli(parameters, self.crop)
        if self.mixture > 1:
            return ReferenceLogisticMixture(parameters, self.bits)
        return PixelNormal(*parameters.chunk(2, 1))

    def forward(self, batch: Batch) -> Tensor:
        with data_plate(batch):
            z = pyro.sample("z0", self.prior())
            if self.vanilla:
                state = self.combine_top(z)
            else:
                top = self.top.expand(len(batch.index), *self.top.shape)
                state = self.combine_top(top, z)
            for i, group in enumerate(self.groups, 1):
                if str(i - 1) in self.ups:
                    state = self.ups[str(i - 1)](state)
                state = pyro.deterministic(f"h{i}", group.cells(state), event_dim=3)
                z = pyro.sample(f"z{i}", group.prior(state))
                state = group.combine(state, z)
            return pyro.sample("x", self.likelihood(state), obs=batch.x)


def _check_image(data_shape: tuple[int, ...], halvings: int, crop: int) -> None:
    """Refuse images of the wrong shape, and a crop that leaves no pixel."""
    colours, *sides = data_shape
    if len(data_shape) != 3 or any(side % 2**halvings for side in sides):
        raise ValueError(
            f"an image {list(data_shape)} cannot be halved {halvings} times (once by every block "
            "and between two scales); pad it."
        )
    if colours not in (1, 3):
        raise ValueError(f"an image {list(data_shape)} must have 1 or 3 channels.")
    if colours == 1 and not 0 <= 2 * crop < min(sides):
        raise ValueError(f"crop={crop} must be 0 or more, and leave pixels of the image.")
