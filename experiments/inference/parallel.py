"""Several processes that train together: averages over them, and what they must agree on.

Every process computes the loss and gradients of its own rows, rescaled by N over their number.
Their mean over processes with equally many rows is that of the whole batch.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
import torch.distributed as processes
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ppl_models.batch import Batch


def world_size() -> int:
    """The number of processes that train together; 1 without a process group."""
    joined = processes.is_available() and processes.is_initialized()
    return processes.get_world_size() if joined else 1


def rank() -> int:
    """The rank of this process, from 0."""
    return processes.get_rank() if world_size() > 1 else 0


def is_main() -> bool:
    """Whether this is the main process, the one of rank 0: it prints and writes."""
    return rank() == 0


def own_rows(batch: Batch) -> Batch | None:
    """This process's part of the rows that every process was given, all parts of one size.

    The remainder, fewer rows than processes, is left out; ``None`` if nothing is left.
    """
    if world_size() == 1:
        return batch
    size = len(batch.index) // world_size()
    mine = slice(rank() * size, (rank() + 1) * size)
    return batch.each(lambda rows: rows[mine]) if size else None


def own_noise(*seed: int) -> None:
    """Give every process except the main one different random numbers."""
    if rank():
        state = np.random.SeedSequence([*seed, rank()]).generate_state(1, np.uint64)
        torch.manual_seed(int(state[0] >> 1))


@torch.no_grad()
def average_gradients(loss: Tensor, parameters: Iterable[nn.Parameter]) -> Tensor:
    """Replace gradients by their means over processes, bit-identical in all; the mean loss.

    A parameter that has a gradient nowhere keeps none: weight decay must not move it. One whose
    gradient holds the rows of a batch alone gets such a mean in every process.
    """
    if world_size() == 1:
        return loss
    trained = list(parameters)
    held = [(p.grad is not None, p.grad is not None and p.grad.is_sparse) for p in trained]
    dense = [torch.zeros_like(p) if p.grad is None else p.grad.to_dense() for p in trained]
    sent = [loss, torch.tensor(held).to(loss), *dense]
    message = torch.cat([tensor.flatten() for tensor in sent])  # of their common type
    processes.all_reduce(message)
    message /= world_size()
    parts = message.split([tensor.numel() for tensor in sent])
    like = (*sent[:2], *trained)  # fused optimizers take their parameters' strides for granted
    loss, used, *means = (
        torch.empty_like(t).copy_(part.view_as(t)) for part, t in zip(parts, like, strict=True)
    )
    for parameter, mean, (anywhere, of_rows) in zip(trained, means, used.tolist(), strict=True):
        if of_rows:
            parameter.grad = mean.to_sparse(1)
        else:
            parameter.grad = mean if anywhere else None
    return loss


def start_together(svi: Any) -> None:
    """Give all processes the first one's weights.

    On GPUs batch norms become ``SyncBatchNorm`` besides their own classes, which may do more than
    normalise; elsewhere each process normalises its own rows.
    """
    if world_size() == 1:
        return
    averaged = [svi.average.averaged] if svi.average else []
    whole = nn.ModuleList([svi.model, svi.guide, *averaged])
    for tensor in (*whole.parameters(), *whole.buffers()):
        processes.broadcast(tensor.detach(), 0)
    if not any(parameter.is_cuda for parameter in svi.parameters):
        return
    for part in whole.modules():
        kind = type(part)
        if isinstance(part, _BatchNorm) and not isinstance(part, nn.SyncBatchNorm):
            part.__class__ = type(kind.__name__, (kind, nn.SyncBatchNorm), {"process_group": None})


def any_of(true: bool) -> bool:
    """Whether it is true in any of the processes; asked after every step."""
    if world_size() == 1:
        return true
    told = torch.tensor(float(true))
    processes.all_reduce(told, processes.ReduceOp.MAX)
    return bool(told)


def gathered(value: Any) -> list[Any]:
    """The values of all processes, in the order of their ranks; waits for all of them."""
    values = [value] * world_size()
    if len(values) > 1:
        processes.all_gather_object(values, value)
    return values
