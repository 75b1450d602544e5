"""What keeps a deep hierarchy trainable: penalties on the spectral norms and on the gains."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


def convolutions(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """All convolutions, weight-normalised or not, with their names."""
    for name, part in module.named_modules():
        if hasattr(part, "effective_weight"):
            yield name, part


def batch_norm_gains(module: nn.Module) -> Tensor:
    """The sum over all batch norms of their largest gain; zero where there are none."""
    norms = [
        part.weight.abs().max() for part in module.modules() if isinstance(part, nn.BatchNorm2d)
    ]
    return torch.stack(norms).sum() if norms else next(module.parameters()).new_zeros(())


def _normalise(a: Tensor) -> Tensor:
    return a / a.norm(dim=1, keepdim=True).clamp(min=1e-3)


class SpectralNorm(nn.Module):
    """The sum of the spectral norms of all convolutions, by power iteration.

    The vectors u and v are kept from call to call, one row per matrix, matrices of one shape
    together; they are constants in the gradient. They are no part of the weights, since a
    published checkpoint has none: ``put`` is for a run that is resumed.

    Args:
        module: the module whose convolutions are penalised; not registered here.
        iterations: number of power iterations per call, except the first call.
        first: number of power iterations of the first call, which starts from random vectors.

    References:
        Yoshida & Miyato (2017); Vahdat & Kautz (2020).
    """

    def __init__(self, module: nn.Module, iterations: int = 4, first: int = 40) -> None:
        super().__init__()
        self.iterations, self.first = iterations, first
        self.groups: dict[str, list[tuple[str, Any]]] = {}
        for name, conv in convolutions(module):
            rows = conv.weight.shape[0]
            columns = conv.weight[0].numel()
            self.groups.setdefault(f"{rows}x{columns}", []).append((name, conv))

    @torch.no_grad()
    def start(self) -> None:
        """Make the vectors, if they are not made yet, by all but the last of the iterations."""
        if all(hasattr(self, f"u {shape}") for shape in self.groups):
            return
        for shape, W in self._matrices():
            generator = torch.Generator().manual_seed(0)
            for name, length in (("u", W.shape[1]), ("v", W.shape[2])):
                vectors = _normalise(torch.randn(len(W), length, generator=generator)).to(W)
                self.register_buffer(f"{name} {shape}", vectors, persistent=False)
            self._iterate(shape, W, self.first - self.iterations)

    @torch.no_grad()
    def put(self, vectors: dict[str, Tensor]) -> None:
        """Go on with the vectors of an earlier run, if it had made them."""
        if vectors:
            self.start()
        for name, vector in vectors.items():
            self.get_buffer(name).copy_(vector)

    def vectors(self, shape: str) -> tuple[Tensor, Tensor]:
        """u and v of all matrices of a shape, ``[n, rows]`` and ``[n, columns]``."""
        return getattr(self, f"u {shape}"), getattr(self, f"v {shape}")

    def _matrices(self) -> Iterator[tuple[str, Tensor]]:
        for shape, convs in self.groups.items():
            yield shape, torch.stack([conv.effective_weight().flatten(1) for _, conv in convs])

    @torch.no_grad()
    def _iterate(self, shape: str, W: Tensor, iterations: int) -> None:
        u, v = self.vectors(shape)
        for _ in range(iterations):
            v.copy_(_normalise(torch.einsum("nrc,nr->nc", W, u)))
            u.copy_(_normalise(torch.einsum("nrc,nc->nr", W, v)))

    def forward(self) -> Tensor:
        """The sum, with its gradient, after ``iterations`` more of the power iteration."""
        self.start()
        total: Tensor | float = 0.0
        for shape, W in self._matrices():
            self._iterate(shape, W, self.iterations)
            u, v = self.vectors(shape)
            total = total + torch.einsum("nr,nrc,nc->", u, W, v)
        return total  # type: ignore[return-value]
