"""Every step of an SVI on the rows of several processes, as if one process had them all."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from experiments.inference.distributed import (
    Share,
    average_together,
    broadcast,
    sharing,
    world_size,
)
from experiments.inference.global_batch import GlobalBatch, Watch
from experiments.inference.svi import SVI
from ppl_models.program import Batch

__all__ = ["DataParallel", "data_parallel"]


def data_parallel(svi: SVI) -> None:
    """Have every process of the group give ``svi.step`` the same batch and take its own rows.

    All begin with the first one's weights. Nothing happens where there is no group.
    """
    if world_size() == 1:
        return
    average = [svi.average.averaged] if svi.average else []
    broadcast(svi.model, svi.guide, *average)
    svi.parallel = DataParallel(svi.model, svi.guide)


class DataParallel:
    """What computes gradients on a share of the batch, and averages them over processes.

    The first step is watched: what could not be shared out is refused by name.

    Args:
        modules: what is trained.
    """

    def __init__(self, *modules: nn.Module) -> None:
        self.modules = modules
        self.watched = False

    def __call__(self, gradients: Callable[[Batch], Tensor], batch: Batch) -> Tensor:
        """``gradients`` of the whole batch, which every process has; its loss, detached.

        Parameters and loss get the same bits in every process.
        """
        share = Share.of(len(batch.index))
        with ExitStack() as stack:
            stack.enter_context(sharing(share))
            mode = GlobalBatch(share)
            if not self.watched:
                stack.enter_context(Watch(mode))
            stack.enter_context(mode)
            loss = gradients(share.batch(batch)).clone()
        self.watched = True
        self._average(loss, batch.index, share.weight)
        return loss

    def _average(self, loss: Tensor, index: Tensor, weight: float) -> None:
        """Average loss and gradients; of a table's gradient, the rows of the whole batch."""
        parameters: dict[int, Any] = {
            id(p): p for module in self.modules for p in module.parameters() if p.grad is not None
        }
        tables = [p for p in parameters.values() if p.grad.is_sparse]
        rows = [p.grad.coalesce().index_select(0, index).to_dense() for p in tables]
        dense = [p.grad for p in parameters.values() if not p.grad.is_sparse]
        average_together([loss, *dense, *rows], weight)
        for table, values in zip(tables, rows, strict=True):
            table.grad = torch.sparse_coo_tensor(
                index[None], values, table.shape, check_invariants=False
            )
