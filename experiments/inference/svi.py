"""Stochastic variational inference: one step of any model, guide and objective."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyro.infer
import torch
from torch import Tensor, nn

from experiments.inference.average import WeightAverage
from experiments.inference.captured import CapturedStep
from experiments.inference.compiled import CompiledGradients, why_eager
from experiments.inference.guard import Guard
from experiments.inference.objectives import Elbo, Objective
from experiments.inference.optim import RowAdam, local_tables
from experiments.inference.optimizers import adam
from guides import Guide
from guides.local import LocalTable
from ppl_models.program import Batch

__all__ = ["SVI", "Pair"]


class Pair(nn.Module):
    """A model and a guide, held once: what is moved, copied, saved and switched to evaluation."""

    model: Any
    guide: Any

    def __init__(self, model: nn.Module, guide: nn.Module) -> None:
        super().__init__()
        self.model, self.guide = model, guide

    @property
    def number_of_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())


@contextmanager
def sparse_gradients(tables: list[LocalTable]) -> Iterator[None]:
    """Inside, the gradient of a per-datum table holds the rows of the batch alone."""
    for table in tables:
        table.sparse = True
    try:
        yield
    finally:
        for table in tables:
            table.sparse = False


class SVI(pyro.infer.SVI):
    """Pyro's SVI with parameters in modules and a ``torch.optim`` optimiser.

    Rows of per-datum guides have an optimiser of their own, ``RowAdam`` at ``guide.local_lr``.

    Args:
        model: p(x, z).
        guide: q(z | x).
        optim: a ``torch.optim`` optimiser, or several; Adam at rate 0.01 by default.
        loss: an objective with ``differentiable_loss``; the ELBO by default.
        guard: refuses steps that are not finite, and bounds gradients; none by default.
        average: moves after every step; none by default.
        compile: take loss and gradient as one compiled graph: worth its half minute or so in long
            runs. By default what the environment's ``PPL_COMPILE`` says, 1 or 0, for pairs
            whose steps can be one (see ``why_eager``).

    Attributes:
        trains: whether the pair has anything to train.
        parallel: shares every step out between processes; see ``data_parallel``.
        compiled: the compiled gradients, if they were asked for.
    """

    def __init__(
        self,
        model: nn.Module,
        guide: Guide,
        optim: torch.optim.Optimizer | Sequence[torch.optim.Optimizer] | None = None,
        loss: Objective | None = None,
        guard: Guard | None = None,
        average: WeightAverage | None = None,
        compile: bool | None = None,
    ) -> None:
        # Pyro's initialiser insists on a PyroOptim; everything else it does is here.
        self.model: Any = model
        self.guide: Any = guide
        self.guard, self.average = guard, average
        self.parallel: Callable[[Callable[[Batch], Tensor], Batch], Tensor] | None = None
        self.objective = Elbo() if loss is None else loss
        self.loss = self.objective.loss
        self.loss_and_grads = self.objective.loss_and_grads
        self.optim = adam(model, guide) if optim is None else optim
        self.tables = tables = [table for table in local_tables(guide) if table.rows.requires_grad]
        self.local_optim = RowAdam(tables, getattr(guide, "local_lr", 0.1)) if tables else None
        self.optimizers = [self.optim] if isinstance(self.optim, torch.optim.Optimizer) else []
        self.optimizers += self.optim if isinstance(self.optim, Sequence) else []
        rows = {id(table.rows) for table in tables}
        for optimizer in self.optimizers:
            if rows & {id(p) for group in optimizer.param_groups for p in group["params"]}:
                raise ValueError(
                    "rows of a per-datum guide have their own optimiser: leave them out of optim "
                    "(global_parameters(model, guide) gives the others)."
                )
        self.optimizers += [self.local_optim] if self.local_optim else []
        if compile is None:
            compile = os.environ.get("PPL_COMPILE") == "1" and not why_eager(Pair(model, guide))
        self.compiled: CompiledGradients | None = None
        self.captured: CapturedStep | None = None
        if compile and self.trains:
            graphs = CompiledGradients(model, guide, self.objective, self.gradients)
            self.compiled = graphs
            on_gpu = any(p.is_cuda for p in Pair(model, guide).parameters())
            if on_gpu and not tables:
                self.captured = CapturedStep(graphs, self.optimizers, self.take)

    @property
    def trains(self) -> bool:
        return bool(self.optimizers)

    def step(self, batch: Batch) -> Tensor:
        """One gradient step; the loss before it, a detached tensor [nats per data point].

        Raises:
            ValueError: If the pair has nothing to train.
        """
        if not self.trains:
            raise ValueError("nothing to train: neither model nor guide has free parameters.")
        if self.guard:
            return self.guard.step(self, batch)
        loss = self.on_device(batch)
        if self.average:
            self.average.update()
        return loss

    def on_device(self, batch: Batch) -> Tensor:
        """A step but for the average and what a guard on the processor does; its loss."""
        if self.captured and not self.parallel:
            return self.captured(batch)
        return self.take(self.differentiate, batch)

    def take(self, gradients: Callable[[Batch], Tensor], batch: Batch) -> Tensor:
        """A step of the optimisers along such gradients; a GPU may record it."""
        if self.guard and self.guard.lazy:
            return self.guard.take(self, gradients, batch)
        loss = gradients(batch)
        self.descend()
        return loss

    def differentiate(self, batch: Batch) -> Tensor:
        """``gradients`` in the way of this SVI: eager or compiled, alone or shared out."""
        if self.parallel:
            return self.parallel(self.gradients, batch)
        return (self.compiled or self.gradients)(batch)

    def descend(self) -> None:
        """Move along the gradients, and drop them."""
        for optimizer in self.optimizers:
            optimizer.step()
        self.drop_gradients()

    def drop_gradients(self) -> None:
        """As ``zero_grad``, which takes its time."""
        for parameter in self.parameters:
            parameter.grad = None

    @property
    def parameters(self) -> Iterator[nn.Parameter]:
        """What the optimisers move."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                yield from group["params"]

    def gradients(self, batch: Batch) -> Tensor:
        """Add the loss's gradient to the parameters'; the loss, detached [nats per data point]."""
        with sparse_gradients(self.tables):
            loss = self.objective.differentiable_loss(self.model, self.guide, batch) / batch.size
            loss.backward()
        return loss.detach()

    @torch.no_grad()
    def evaluate_loss(self, batch: Batch) -> Tensor:
        """The loss on a batch, a tensor [nats per data point]."""
        return self.objective.differentiable_loss(self.model, self.guide, batch) / batch.size

    @property
    def penalties(self) -> list[Any]:
        """Parts of the objective that keep something from step to step."""
        return [part for part in getattr(self.objective, "penalties", ())
                if isinstance(part, nn.Module)]  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """What a later ``SVI`` of the same pair needs in order to go on, but for the weights."""
        state: dict[str, Any] = {
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "penalties": [dict(part.named_buffers()) for part in self.penalties],
        }
        return state | ({"average": self.average.state_dict()} if self.average else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for part, buffers in zip(self.penalties, state["penalties"], strict=True):
            part.put(buffers)
        if self.average:
            self.average.load_state_dict(state["average"])
        if self.captured and self.compiled:  # its recordings hold the tensors of before
            self.captured = CapturedStep(self.compiled, self.optimizers, self.take)
