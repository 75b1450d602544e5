"""KL balancing, which keeps all groups of latents active while the KL is annealed."""

import torch
from torch import Tensor

VARIANTS = {
    "equal": lambda j: 1.0,
    "linear": lambda j: 2.0**j,
    "sqrt": lambda j: 2.0 ** (j / 2),
    "square": lambda j: 4.0**j,
}
"""How a group's share grows with its scale j, 0 the coarsest."""


def group_sizes(groups_per_scale: tuple[int, ...], variant: str = "square") -> Tensor:
    """a_l of every group, coarse to fine, ``[G]``; the smallest is one.

    Args:
        groups_per_scale: coarse to fine.
        variant: a name in ``VARIANTS``; square also divides by the number of groups of the scale.
    """
    size = VARIANTS[variant]
    sizes = [
        size(j) / (number if variant == "square" else 1)
        for j, number in enumerate(groups_per_scale)
        for _ in range(number)
    ]
    return torch.tensor(sizes) / min(sizes)


def balancing_weights(kls: Tensor, sizes: Tensor) -> Tensor:
    """gamma_l, with mean one: larger where a group's KL is large for its size, ``[G]``.

    Args:
        kls: of every image and group, ``[B, G]`` [nats]; with flows they may be negative.
        sizes: a_l, ``[G]``.

    References:
        Vahdat & Kautz (2020), after Chen et al. (2017).
    """
    weight = (kls.abs().mean(0) + 0.01) / sizes.to(kls)
    return (weight / weight.mean()).detach()
