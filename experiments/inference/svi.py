"""Stochastic variational inference: one step of any model, guide and objective."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import pyro.infer
import torch
from torch import Tensor, nn

from experiments.errors import INVALID_VALUES
from experiments.inference.average import WeightAverage
from experiments.inference.compiled.gradients import CompiledGradients
from experiments.inference.guard.diagnosis import RandomState, explain
from experiments.inference.guard.guard import Guard
from experiments.inference.objectives.base import penalties_of
from experiments.inference.objectives.pyro_elbos import add_gradients, loss_of, objective_of
from experiments.inference.optim.pyro_adapter import PyroOptimizer
from experiments.inference.optim.rows import RowAdam, local_tables
from experiments.inference.optim.svi_argument import Optim, optimizers_of
from experiments.inference.pair import Buffers, check_programs, sparse_gradients
from experiments.inference.pair import Pair as Pair
from experiments.inference.parallel import average_gradients, gathered
from guides import Guide
from ppl_models.batch import Batch


class SVI:
    """A drop-in for ``pyro.infer.SVI`` whose parameters live in modules.

    If several processes train together, each calls ``step`` with the same number of different
    rows; loss and gradients are averaged over the processes.

    Args:
        model: p(x, z).
        guide: q(z | x), any module.
        optim: a ``torch.optim`` optimizer or several, a ``pyro.optim`` one, or a function from
            parameters to an optimizer; Adam at rate 0.01 by default. Parameters that are frozen
            now are trained once unfrozen, unless a torch optimizer lacks them. Rows of
            per-datum guides have an optimizer of their own, ``RowAdam`` at ``guide.local_lr``.
        loss: one of our objectives or a Pyro ELBO; the ELBO by default.
        guard: refuses steps that are not finite, and may clip gradients; none by default.
        average: moving average of the weights, updated after every step; none by default.
        compile: compute loss and gradients as one compiled graph. A step that cannot be compiled
            runs eagerly, with one warning.

    Attributes:
        objective: the loss; may be replaced between steps.
        compiled: the compiled gradients; ``None`` without ``compile`` or parameters to train.

    Raises:
        TypeError: If ``model`` or ``guide`` is not a module (or is a handler around one), or
            ``optim`` or ``loss`` is something else.
        ValueError: If ``optim`` moves parameters of another pair or rows of a per-datum guide, or
            is a ``pyro.optim`` optimizer that was used before.
    """

    def __init__(
        self,
        model: nn.Module,
        guide: Guide,
        optim: Optim | None = None,
        loss: pyro.infer.ELBO | None = None,
        guard: Guard | None = None,
        average: WeightAverage | None = None,
        compile: bool = False,
    ) -> None:
        check_programs(model, guide)
        self.model: Any = model
        self.guide: Any = guide
        self.objective, self.guard, self.average = objective_of(loss), guard, average
        self.optimizers = optimizers_of(optim, model, guide)
        self.tables = [table for table in local_tables(guide) if table.rows.requires_grad]
        self.local_optim = None
        if self.tables:
            self.local_optim = RowAdam(self.tables, getattr(guide, "local_lr", 0.1))
            self.optimizers.append(self.local_optim)
        self.own = [*model.parameters(), *guide.parameters()]
        self.compiled = None
        if compile and self.trains:
            self.compiled = CompiledGradients(model, guide, self.objective, self.eager)
        self.gradients: Callable[[Batch], Tensor] = self.compiled or self.eager
        self.buffers = Buffers(model, guide, *penalties_of(self.objective))

    @property
    def trains(self) -> bool:
        """Whether the pair has anything to train."""
        return next(self.parameters, None) is not None

    @property
    def parameters(self) -> Iterator[nn.Parameter]:
        """The parameters that the optimizers update: those that are not frozen."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                yield from (p for p in group["params"] if p.requires_grad)

    def step(self, batch: Batch) -> Tensor:
        """One gradient step; the loss before it, a detached tensor [nats per data point].

        The loss of a refused step is infinite or NaN, even if only a gradient was.

        Raises:
            ValueError: If the pair has nothing to train, or does not pass its checks.
            Diverged: If the guard has refused too many steps in a row.
        """
        if not self.trains:
            raise ValueError("nothing to train: neither model nor guide has free parameters.")
        self._drop_gradients()  # left by the user or an interrupted step
        random, before = self._state(batch)
        loss = average_gradients(self._attempt(batch), self.parameters)
        if self.guard and not self.guard.passes(loss, self.parameters):
            self.buffers.restore(before)
            self._drop_gradients()
            self.guard.refuse(lambda: self._explanation(batch, random))
            return math.inf * loss.abs()
        for optimizer in self.optimizers:
            if isinstance(optimizer, PyroOptimizer):
                optimizer.size = batch.size
            optimizer.step()
        self._drop_gradients()
        if self.average:
            self.average.update()
        return loss

    def eager(self, batch: Batch) -> Tensor:
        """Add the loss's gradient to the parameters'; the loss, detached [nats per data point]."""
        with sparse_gradients(self.tables):
            return add_gradients(self.objective, self.model, self.guide, batch)

    def evaluate_loss(self, batch: Batch) -> Tensor:
        """The loss on a batch, detached [nats per data point]; buffers do not change."""
        with self.buffers.kept():
            return loss_of(self.objective, self.model, self.guide, batch)

    def _state(self, batch: Batch) -> tuple[Any, Any]:
        """The state that explains a refused step and must be restored after it."""
        if not self.guard:
            return None, None
        for penalty in penalties_of(self.objective):
            penalty.start()  # its buffers appear at the first step
        return RandomState.now(batch.index), self.buffers.clone()

    def _attempt(self, batch: Batch) -> Tensor:
        """The gradients; under a guard NaN if a distribution refuses its parameters."""
        if self.compiled:
            self.compiled.objective = self.objective
        try:
            return self.gradients(batch)
        except (torch.linalg.LinAlgError, ValueError) as error:
            invalid = not isinstance(error, ValueError) or INVALID_VALUES in str(error)
            if not (self.guard and invalid):
                raise
            # of the other processes' dtype, or they would wait for another message
            return next(self.parameters).detach().new_tensor(math.nan)

    def _drop_gradients(self) -> None:
        """As ``zero_grad``, also for what another ``SVI`` of the same pair moves."""
        for parameter in self.own:
            parameter.grad = None

    def _explanation(self, batch: Batch, random: RandomState) -> str:
        """That of the first process in which something is not finite."""
        found = gathered(explain(self.model, self.guide, self.objective, batch, random))
        return next(filter(None, found), "")

    def state_dict(self) -> dict[str, Any]:
        """What a later ``SVI`` of the pair needs besides the weights; the guard is not saved."""
        state: dict[str, Any] = {
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "penalties": [dict(part.named_buffers()) for part in penalties_of(self.objective)],
        }
        return state | ({"average": self.average.state_dict()} if self.average else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for part, buffers in zip(penalties_of(self.objective), state["penalties"], strict=True):
            part.put(buffers)
        if self.average:
            self.average.load_state_dict(state["average"])
