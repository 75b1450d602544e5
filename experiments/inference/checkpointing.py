"""Gradient checkpointing of NVAE: activations of cells are recomputed instead of stored."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from experiments.inference.pair import Buffers
from ppl_models.nvae.cells import ResidualCell


def checkpoint_levels(module: nn.Module) -> None:
    """Store only the input of every residual cell during training steps.

    The cells are deterministic, and their second pass does not update running statistics, so loss,
    gradients and state do not change. Evaluation is not affected. A copy of the module is
    checkpointed as well.

    Args:
        module: NVAE, its guide, or both in a ``Pair``.

    Raises:
        ValueError: If it has no residual cells.

    References:
        Chen et al. (2016), sublinear memory cost.
    """
    found = list(_cells(module))
    if not found:
        raise ValueError(f"{type(module).__name__} has no residual cells to checkpoint.")
    for cell in found:
        cell.forward = MethodType(forward, cell)  # a bound method, which a copy takes along


def is_checkpointed(module: nn.Module) -> bool:
    """Whether training steps of the module recompute cells."""
    return any(getattr(cell.forward, "__func__", None) is forward for cell in _cells(module))


def _cells(module: nn.Module) -> Iterator[Any]:
    return (part for part in module.modules() if isinstance(part, ResidualCell))


def forward(cell: ResidualCell, x: Tensor) -> Tensor:
    """A cell's forward pass, recomputed in the backward pass of a training step."""
    plain = MethodType(type(cell).forward, cell)
    if not (cell.training and torch.is_grad_enabled()):
        return plain(x)
    norms = [part for part in cell.modules() if isinstance(part, nn.BatchNorm2d)]

    # switching track_running_stats off would save fewer tensors, which ``checkpoint`` refuses
    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), Buffers(*norms).lent()

    return checkpoint(plain, x, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
