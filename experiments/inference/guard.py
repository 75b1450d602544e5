"""What stands between a gradient and the optimiser: a check, and a bound on its norm."""

import math

import torch
from torch import Tensor, nn

__all__ = ["Diverged", "Guard"]


class Diverged(RuntimeError):
    pass


class Guard:
    """Lets a step pass only if its loss and all its gradients are finite.

    A step that does not pass leaves no trace: parameters and the optimiser's state are not
    touched, buffers (running means of batch norms) are put back. The check reads one number per
    step back from the device.

    Args:
        module: what is trained.
        clip: gradients are scaled down to this norm; infinite leaves them. Rows of per-datum
            guides are no part of it.

    Attributes:
        skipped: how many steps did not pass.
    """

    def __init__(self, module: nn.Module, clip: float = math.inf) -> None:
        self.module, self.clip = module, clip
        self.skipped = 0
        self._before: list[Tensor] = []

    def read(self):
        pass

    def remember(self) -> None:
        """Before the forward pass: keep the buffers."""
        self._before = [buffer.clone() for buffer in self.module.buffers()]

    @torch.no_grad()
    def passes(self, loss: Tensor) -> bool:
        """Whether to take the step; if not, buffers are as they were and gradients gone."""
        trained = [p for p in self.module.parameters() if p.grad is not None]
        dense = [p for p in trained if not p.grad.is_sparse]  # type: ignore[union-attr]
        norm = nn.utils.clip_grad_norm_(dense, self.clip)
        rows = [p.grad._values().isfinite().all() for p in trained if p.grad.is_sparse]  # type: ignore[union-attr]
        if all(map(bool, (norm.isfinite(), loss.isfinite(), *rows))):
            return True
        for buffer, value in zip(self.module.buffers(), self._before, strict=True):
            buffer.copy_(value)
        self.module.zero_grad(set_to_none=True)
        self.skipped += 1
        return False
