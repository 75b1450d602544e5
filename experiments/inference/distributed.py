"""A step shared out between processes: averages over them, and who takes which rows.

Process r holds B_r of a batch's B rows. What it computes from them alone is weighed by B_r / B:
the weights sum to one, so terms of the data, rescaled by N / B_r, add up to those of the whole
batch, and terms without data count once.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
import torch.distributed as processes
from torch import Tensor, nn

from ppl_models.program import Batch

__all__ = [
    "Share",
    "agreed",
    "any_of",
    "average",
    "average_together",
    "batch_mean",
    "broadcast",
    "rank",
    "share_randomness",
    "sharing",
    "world_size",
]


def world_size() -> int:
    """The number of processes that train together; 1 without a process group."""
    joined = processes.is_available() and processes.is_initialized()
    return processes.get_world_size() if joined else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return processes.get_rank() if world_size() > 1 else 0


class Share(NamedTuple):
    """The rows of a batch that one process takes.

    Where there are fewer rows than processes, one that is left without takes the first row at
    weight zero: it meets the others in every reduction and adds nothing.

    Args:
        start: its first row.
        rows: how many it takes, at least one.
        total: B, the rows of the whole batch.
        weight: of what it computes, B_r / B.
    """

    start: int
    rows: int
    total: int
    weight: float

    @classmethod
    def of(cls, total: int) -> "Share":
        """This process's part of so many rows: contiguous, all parts nearly of one size."""
        size, larger = divmod(total, world_size())
        rows, start = size + (rank() < larger), rank() * size + min(rank(), larger)
        return cls(start, rows, total, rows / total) if rows else cls(0, 1, total, 0.0)

    def batch(self, batch: Batch) -> Batch:
        """The share's rows of a batch."""
        mine = slice(self.start, self.start + self.rows)
        x = None if batch.x is None else batch.x[mine]
        return batch._replace(x=x, index=batch.index[mine])


_share: ContextVar[Share | None] = ContextVar("share", default=None)


@contextmanager
def sharing(share: Share) -> Iterator[None]:
    """Inside, averages over the batch are taken over the rows of all processes."""
    token = _share.set(share)
    try:
        yield
    finally:
        _share.reset(token)


class _Average(torch.autograd.Function):
    r"""sum_r w_r x_r.

    The whole loss is \sum_r w_r l_r and every gradient is multiplied by w_r at the end, so what
    reaches x_r before that is \sum_s w_s \partial l_s: the average is its own adjoint.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return _weighted_sum(x, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _weighted_sum(gradients[0], ctx.weight), None


def _weighted_sum(x: Tensor, weight: float) -> Tensor:
    total = (weight * x).contiguous()
    processes.all_reduce(total)
    return total


def average(x: Tensor) -> Tensor:
    """The mean over processes, each weighed by its rows, with its gradient; x itself outside."""
    share = _share.get()
    return x if share is None else _Average.apply(x, share.weight)


def batch_mean(x: Tensor) -> Tensor:
    """The mean over the first dimension ``[B, ...]``, B being the rows of all processes."""
    return average(x.mean(0))


def _together(tensors: Sequence[Tensor], act: Callable[[Tensor], Any]) -> None:
    """Do something to many tensors in place, those of one kind in one message."""
    kinds: dict[Any, list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    for alike in kinds.values():
        flat = torch.cat([tensor.flatten() for tensor in alike])
        act(flat)
        for tensor, part in zip(alike, flat.split([t.numel() for t in alike]), strict=True):
            tensor.copy_(part.view(tensor.shape))


@torch.no_grad()
def average_together(tensors: Sequence[Tensor], weight: float) -> None:
    """Replace tensors by their means over processes, to the same bits everywhere."""
    _together(tensors, lambda flat: processes.all_reduce(flat.mul_(weight)))


@torch.no_grad()
def broadcast(*modules: nn.Module) -> None:
    """Give all processes the first one's parameters and buffers."""
    tensors = [t for module in modules for t in (*module.parameters(), *module.buffers())]
    _together(tensors, lambda flat: processes.broadcast(flat, 0))


def share_randomness() -> None:
    """Put all processes where the first one's generators are."""
    if world_size() == 1:
        return
    state = torch.get_rng_state()
    processes.broadcast(state, 0)
    torch.set_rng_state(state)
    if torch.cuda.is_initialized():
        state = torch.cuda.get_rng_state()
        processes.broadcast(state, 0)
        torch.cuda.set_rng_state(state)


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
