"""Several processes that train together: averages over them, and what they must agree on.

Every process computes the loss and gradients of its own rows, rescaled by N over their number.
Their mean over processes with equally many rows is that of the whole batch.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as processes
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from ppl_models.batch import Batch


def world_size() -> int:
    """The number of processes that train together; 1 without a process group."""
    joined = processes.is_available() and processes.is_initialized()
    return processes.get_world_size() if joined else 1


def rank() -> int:
    """The rank of this process, from 0."""
    return processes.get_rank() if world_size() > 1 else 0


def own_rows(batch: Batch) -> Batch | None:
    """This process's part of the rows that every process was given, all parts of one size.

    The remainder, fewer rows than processes, is left out; ``None`` if nothing is left.
    """
    if world_size() == 1:
        return batch
    total = len(batch.index)
    size = total // world_size()
    mine = slice(rank() * size, (rank() + 1) * size)

    def part(rows: Any) -> Any:
        by_row = isinstance(rows, Tensor) and rows.ndim and len(rows) == total
        return rows[mine] if by_row else rows

    return tree_map(part, batch) if size else None


def own_noise(*seed: int) -> None:
    """Give every process except the main one different random numbers."""
    if rank():
        state = np.random.SeedSequence([*seed, rank()]).generate_state(1, np.uint64)
        torch.manual_seed(int(state[0] >> 1))


@torch.no_grad()
def average_gradients(
    loss: Tensor, parameters: Iterable[nn.Parameter], tables: Sequence[nn.Parameter] = ()
) -> Tensor:
    """Replace gradients by their means over processes, bit-identical in all; the mean loss.

    A parameter that has a gradient nowhere keeps none: weight decay must not move it. Where a
    loss is not finite, rows of tables are not exchanged: some may be missing.

    Args:
        loss: of this process.
        parameters: all that are trained.
        tables: those of them whose gradients hold only the rows of the batch.
    """
    if world_size() == 1:
        return loss
    rows = set(map(id, tables))
    dense = [parameter for parameter in parameters if id(parameter) not in rows]
    used = torch.tensor([parameter.grad is not None for parameter in dense]).to(loss)
    given = [torch.zeros_like(p) if p.grad is None else p.grad for p in dense]
    loss, used, *means = _means([loss, used, *given])
    for parameter, mean, anywhere in zip(dense, means, used.tolist(), strict=True):
        parameter.grad = mean if anywhere else None
    if loss.isfinite():
        for table in tables:
            table.grad = _rows_of_all(table.grad)
    return loss


def _means(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Means over processes, of all tensors in one message of their common type."""
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    processes.all_reduce(flat)
    flat /= world_size()
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view_as(t).to(t.dtype) for part, t in zip(parts, tensors, strict=True)]


def _rows_of_all(gradient: Any) -> Tensor:
    """The mean of a table's sparse gradients, each of as many rows."""
    indices, values = gradient._indices()[0].contiguous(), gradient._values().contiguous()
    every_index = [torch.empty_like(indices) for _ in range(world_size())]
    every_value = [torch.empty_like(values) for _ in range(world_size())]
    processes.all_gather(every_index, indices)
    processes.all_gather(every_value, values)
    index, value = torch.cat(every_index)[None], torch.cat(every_value) / world_size()
    return torch.sparse_coo_tensor(index, value, gradient.shape, check_invariants=False)


def start_together(svi: Any) -> None:
    """Give all processes the first one's weights.

    On GPUs batch norms become ``SyncBatchNorm``; elsewhere each process normalises its own rows.

    Args:
        svi: what is about to be trained.
    """
    if world_size() == 1:
        return
    modules = [svi.model, svi.guide, *([svi.average.averaged] if svi.average else [])]
    for tensor in (t for m in modules for t in (*m.parameters(), *m.buffers())):
        processes.broadcast(tensor.detach(), 0)
    if any(parameter.is_cuda for parameter in svi.parameters):
        for module in modules:
            nn.SyncBatchNorm.convert_sync_batchnorm(module)


def gathered(value: Any) -> list[Any]:
    """The values of all processes, in the order of their ranks."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    processes.all_gather_object(values, value)
    return values


def first_said(words: str) -> str:
    """What the first process says that says anything."""
    return next(filter(None, gathered(words)), "")


def agreed(value: float) -> float:
    """The first process's value."""
    if world_size() == 1:
        return value
    told = torch.tensor(value, dtype=torch.float64)
    processes.broadcast(told, 0)
    return told.item()


def any_of(true: bool) -> bool:
    """Whether it is true in any of the processes."""
    if world_size() == 1:
        return true
    told = torch.tensor(float(true))
    processes.all_reduce(told, processes.ReduceOp.MAX)
    return bool(told)
