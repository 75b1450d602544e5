"""A whole step as one CUDA graph: compiled gradients and optimisers, no Python between kernels."""

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from experiments.inference.compiled import CompiledGradients
from ppl_models.program import Batch

__all__ = ["WARM", "CapturedStep"]

WARM = 3
"""Steps before the recorded one: libraries choose their kernels, optimisers make their state."""


class Recorded(NamedTuple):
    """A recorded step, and the tensors that it reads the batch from and leaves the loss in."""

    graph: torch.cuda.CUDAGraph
    batch: Batch
    loss: Tensor


class CapturedStep:
    """Steps of compiled gradients and their optimisers, recorded once and then replayed.

    The first steps with batches of a shape run as they are; the next one is recorded. Learning
    rates and live numbers lie on the device and are filled before a replay; random numbers are
    fresh, since a replay moves the generator on.

    Args:
        gradients: what makes a step's graphs.
        optimizers: of torch's that can be captured (Adam, Adamax).
        take: a step along gradients that are computed so; it reads nothing back.

    References:
        PyTorch's documentation of CUDA graphs, on whole-network capture.
    """

    def __init__(
        self,
        gradients: CompiledGradients,
        optimizers: Sequence[torch.optim.Optimizer],
        take: Callable[[Callable[[Batch], Tensor], Batch], Tensor],
    ) -> None:
        self.gradients, self.take = gradients, take
        self.groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        device = self.groups[0]["params"][0].device
        self.rates = [torch.zeros((), device=device) for _ in self.groups]
        for group in self.groups:
            group["capturable"] = True
        self.steps: dict[Hashable, int] = {}
        self.recorded: dict[Hashable, Recorded] = {}

    def __call__(self, batch: Batch) -> Tensor:
        """One step; the loss before it, detached [nats per data point]."""
        for group, rate in zip(self.groups, self.rates, strict=True):
            if group["lr"] is not rate:  # a schedule has set it
                rate.fill_(group["lr"])
                group["lr"] = rate
        key = self.gradients.prepare(batch)
        if self.gradients.graphs.get(key) is None:
            return self.take(self.gradients.add, batch)
        if key in self.recorded:
            return self._replay(self.recorded[key], batch)
        self.steps[key] = self.steps.get(key, 0) + 1
        if self.steps[key] <= WARM:
            return self._aside(batch)
        self.recorded[key] = self._record(batch)
        return self._replay(self.recorded[key], batch)

    def _aside(self, batch: Batch) -> Tensor:
        """A step on a stream of its own, as a capture wants those before it."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            loss = self.take(self.gradients.add, batch)
        torch.cuda.current_stream().wait_stream(stream)
        return loss

    def _record(self, batch: Batch) -> Recorded:
        assert batch.x is not None
        held = batch._replace(x=batch.x.clone(), index=batch.index.clone())
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loss = self.take(self.gradients.add, held)
        return Recorded(graph, held, loss)

    def _replay(self, recorded: Recorded, batch: Batch) -> Tensor:
        assert batch.x is not None
        assert recorded.batch.x is not None
        recorded.batch.x.copy_(batch.x)
        recorded.batch.index.copy_(batch.index)
        recorded.graph.replay()
        return recorded.loss.clone()
