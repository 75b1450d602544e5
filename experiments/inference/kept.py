"""Copies of tensors that a step changes in place, for where it must not count."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["Kept", "KeptRows"]

BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""An integer of as many bytes."""


class Kept:
    """Copies of tensors, which stay allocated from step to step.

    Whether they are put back may be a tensor on the device: nothing is read from it.
    """

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.kinds: list[tuple[list[Tensor], list[Tensor]]] = []

    def take(self, tensors: Sequence[Tensor]) -> None:
        """Copy them as they are now."""
        same = len(tensors) == len(self.tensors)
        if not (same and all(a is b for a, b in zip(tensors, self.tensors, strict=True))):
            self._allocate(tensors)
        for bits, copies in self.kinds:
            torch._foreach_copy_(copies, bits)

    def _allocate(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = list(tensors)
        kinds: dict[Any, list[Tensor]] = {}
        for tensor in tensors:
            bits = tensor.detach().view(BITS[tensor.element_size()])
            kinds.setdefault((bits.dtype, bits.device), []).append(bits)
        self.kinds = [(alike, [torch.empty_like(bits) for bits in alike])
                      for alike in kinds.values()]  # fmt: skip

    def put_back(self) -> None:
        """Undo whatever was done to the tensors since."""
        for bits, copies in self.kinds:
            torch._foreach_copy_(bits, copies)

    def put_back_unless(self, passed: Tensor) -> None:
        """Undo it where a flag is false.

        Bits times zero or one, and added up: few kernels for many tensors, and NaN times zero
        would be NaN.

        Args:
            passed: true or false, a scalar on the tensors' device.
        """
        for bits, copies in self.kinds:
            one = passed.to(bits[0].dtype)
            torch._foreach_mul_(bits, one)
            torch._foreach_mul_(copies, 1 - one)
            torch._foreach_add_(bits, copies)


class KeptRows:
    """The rows of per-datum tables that a step is about to change, and their moments.

    Args:
        optimizer: what changes the rows that have a gradient.
    """

    @torch.no_grad()
    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.rows: list[tuple[Tensor, Tensor, Tensor]] = []
        for group in optimizer.param_groups:
            for table in group["params"]:
                if table.grad is None:
                    continue
                touched = table.grad.to_sparse(1)._indices()[0]
                for tensor in (table, *optimizer.state[table].values()):
                    self.rows.append((tensor, touched, tensor.index_select(0, touched)))

    @torch.no_grad()
    def put_back_unless(self, passed: Tensor) -> None:
        """Undo what was done to them where a flag is false."""
        for tensor, touched, before in self.rows:
            now = tensor.index_select(0, touched)
            tensor.index_copy_(0, touched, torch.where(passed, now, before))
