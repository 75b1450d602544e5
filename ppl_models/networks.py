"""Networks: tensors to tensors, no probability in them."""

import itertools
from collections.abc import Callable, Sequence

from torch import Tensor, nn

__all__ = ["MLP"]


class MLP(nn.Module):
    """Affine layers with an activation between them; any number of leading dimensions.

    Args:
        sizes: widths from input to output; two of them make a single affine map.
        activation: the layer between two affine maps.

    Raises:
        ValueError: If there are fewer than two widths or one is below 1.
    """

    def __init__(
        self, sizes: Sequence[int], activation: Callable[[], nn.Module] = nn.ReLU
    ) -> None:
        super().__init__()
        if len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(f"sizes={tuple(sizes)} must be at least two positive widths.")
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(sizes):
            layers += [nn.Linear(fan_in, fan_out), activation()]
        self.layers = nn.Sequential(*layers[:-1])

    @property
    def head(self) -> nn.Module:
        """The last affine layer."""
        return self.layers[-1]

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
