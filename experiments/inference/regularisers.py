"""What keeps a deep hierarchy trainable: penalties on the spectral norms and on the gains."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["SpectralNorm", "batch_norm_gains", "convolutions"]


def convolutions(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """All convolutions, weight-normalised or not, with their names."""
    for name, part in module.named_modules():
        if hasattr(part, "effective_weight"):
            yield name, part


def batch_norm_gains(module: nn.Module) -> Tensor:
    """The sum over all batch norms of their largest gain."""
    norms = [part.weight.abs().max() for part in module.modules()
             if isinstance(part, nn.BatchNorm2d)]  # fmt: skip
    return torch.stack(norms).sum()


def _normalise(a: Tensor) -> Tensor:
    return a / a.norm(dim=1, keepdim=True).clamp(min=1e-3)


class SpectralNorm(nn.Module):
    """The sum of the spectral norms of all convolutions, by power iteration.

    The vectors u and v are kept from call to call, one row per matrix, matrices of one shape
    together; they are constants in the gradient. They are no buffers, since a published
    checkpoint has none: a resumed run starts them anew.

    Args:
        module: whose convolutions are meant; not registered here.
        iterations: per call; the first call makes ``first``.
        first: iterations of the first call, which starts from random vectors.

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
        self.u: dict[str, Tensor] = {}
        self.v: dict[str, Tensor] = {}

    def forward(self) -> Tensor:
        """The sum, with its gradient, after ``iterations`` more of the power iteration."""
        total: Tensor | float = 0.0
        for shape, convs in self.groups.items():
            W = torch.stack([conv.effective_weight().flatten(1) for _, conv in convs])
            iterations = self.iterations
            if shape not in self.u:
                iterations = self.first
                rows, columns = W.shape[1:]
                self.u[shape] = _normalise(torch.randn(len(W), rows).to(W))
                self.v[shape] = _normalise(torch.randn(len(W), columns).to(W))
            with torch.no_grad():
                for _ in range(iterations):
                    self.v[shape] = _normalise(torch.einsum("nrc,nr->nc", W, self.u[shape]))
                    self.u[shape] = _normalise(torch.einsum("nrc,nc->nr", W, self.v[shape]))
            total = total + torch.einsum("nr,nrc,nc->", self.u[shape], W, self.v[shape])
        return total  # type: ignore[return-value]
