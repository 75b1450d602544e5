"""The gradient of a step as one compiled graph: model, guide, objective, and its derivative.

Pyro's effect handlers and autograd run while the graph is traced, and never again. What may change
from step to step are its arguments: parameters, buffers, data, and the numbers that handlers and
objectives name as live (``LIVE``).
"""

import time
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from pyro.poutine import runtime
from torch import Tensor, nn
from torch.func import functional_call

from experiments.inference.graph import (
    Graph,
    NotTraceable,
    can_compile,
    compiled,
    cuda_devices,
    traced,
)
from experiments.inference.handlers import TemperKL
from experiments.inference.nvae_objective import Regularised
from experiments.inference.objective import Objective
from guides.local import LocalTable
from ppl_models.program import Batch

__all__ = ["LIVE", "CompileWarning", "CompiledGradients"]

LIVE: dict[type, tuple[str, ...]] = {TemperKL: ("beta",), Regularised: ("weight",)}
"""Numbers that may change between steps, by their holder. Other handlers mean an eager step."""


class CompileWarning(UserWarning):
    """A step that was to be compiled runs eagerly."""


class Compiled(NamedTuple):
    """A graph and what its arguments are, besides the batch and the live numbers."""

    graph: Graph
    trained: list[nn.Parameter]
    rest: list[Tensor]


class Whole(nn.Module):
    """Everything that a step reads or writes, so that a graph can take it as arguments."""

    def __init__(self, model: Any, guide: Any, objective: Objective) -> None:
        super().__init__()
        self.model, self.guide, self.objective = model, guide, objective
        penalties = getattr(objective, "penalties", ())
        self.penalties = nn.ModuleList(part for part in penalties if isinstance(part, nn.Module))

    def forward(self, batch: Batch) -> Tensor:
        """The loss [nats per data point]."""
        return self.objective.differentiable_loss(self.model, self.guide, batch) / batch.size

    @torch.no_grad()
    def rehearse(self, batch: Batch) -> None:
        """The loss once: Pyro's checks of it, and whatever is made at a first call; no trace."""
        for part in self.penalties:
            part.start()  # type: ignore[operator]
        before = {name: buffer.clone() for name, buffer in self.named_buffers()}
        with torch.random.fork_rng(devices=cuda_devices(batch.index)):
            self(batch)
        for name, buffer in self.named_buffers():
            buffer.copy_(before.get(name, buffer))


class CompiledGradients:
    """What ``SVI.gradients`` does, as one graph for every shape of a batch.

    A graph is made at the first step with a batch of its shape, in the modules' mode and under the
    handlers of that step. A step that is no graph runs eagerly, with one warning that says why.

    Args:
        model: p(x, z).
        guide: q(z | x).
        objective: their loss.
        eager: what adds the gradients otherwise.

    Attributes:
        seconds: spent on tracing and compiling.
        reasons: why steps ran eagerly.
    """

    def __init__(
        self, model: Any, guide: Any, objective: Objective, eager: Callable[[Batch], Tensor]
    ) -> None:
        self.whole, self.eager = Whole(model, guide, objective), eager
        self.parts: list[nn.Module] = []
        self.tensors: list[Tensor] = []
        self.graphs: dict[Hashable, Compiled | None] = {}
        self.seconds = 0.0
        self.reasons: list[str] = []

    def __call__(self, batch: Batch) -> Tensor:
        """Add the loss's gradient to the parameters'; the loss, detached [nats per data point]."""
        if not self.parts:
            self.whole.rehearse(batch)
            self.parts = list(self.whole.modules())
            self.tensors = [*self.whole.parameters(), *self.whole.buffers()]
        key = self._key(batch)
        if key not in self.graphs:
            self.graphs[key] = self._make(batch)
        made = self.graphs[key]
        if made is None:
            return self.eager(batch)
        live = self._live_values(made.trained[0])
        with torch.no_grad():
            loss, *gradients = made.graph(*made.trained, *made.rest, batch.x, batch.index, *live)
        for parameter, gradient in zip(made.trained, gradients, strict=True):
            if gradient is not None:
                total = gradient if parameter.grad is None else parameter.grad + gradient
                parameter.grad = total
        return loss

    def _key(self, batch: Batch) -> Hashable:
        """All that a graph takes for granted."""
        tensors = [t for t in (batch.x, batch.index, *self.tensors) if t is not None]
        return (
            batch.size, batch.repeats, *(type(handler) for handler in runtime._PYRO_STACK),
            *(part.training for part in self.parts),
            *((t.shape, t.stride(), t.dtype, t.requires_grad) for t in tensors),
        )  # fmt: skip

    def _make(self, batch: Batch) -> Compiled | None:
        began = time.perf_counter()
        try:
            self._check_possible(batch)
            return self._compiled(batch)
        except NotTraceable as reason:
            words = str(reason)
            if words not in self.reasons:
                self.reasons.append(words)
                warnings.warn(
                    f"this step cannot be compiled and runs eagerly: {words}.",
                    CompileWarning, stacklevel=4,
                )  # fmt: skip
            return None
        finally:
            self.seconds += time.perf_counter() - began

    def _check_possible(self, batch: Batch) -> None:
        if not batch.index.is_cuda and not can_compile():
            raise NotTraceable("no C++ compiler is installed (g++, or what $CXX names)")
        if any(isinstance(part, LocalTable) and part.sparse for part in self.parts):
            raise NotTraceable("rows of a per-datum guide are updated sparsely")
        for handler in runtime._PYRO_STACK:
            if type(handler) not in LIVE:
                raise NotTraceable(f"it knows no handler {type(handler).__name__}")

    def _compiled(self, batch: Batch) -> Compiled:
        whole, live = self.whole, list(self._live())
        trained = {n: p for n, p in whole.named_parameters() if p.requires_grad}
        rest: dict[str, Tensor] = {n: p for n, p in whole.named_parameters() if n not in trained}
        rest |= dict(whole.named_buffers())

        def loss_and_gradients(*values: Tensor) -> tuple[Tensor | None, ...]:
            leaves = [value.detach().requires_grad_() for value in values[: len(trained)]]
            others = values[len(trained) : len(trained) + len(rest)]
            x, index, *numbers = values[len(trained) + len(rest) :]
            state = dict(zip([*trained, *rest], [*leaves, *others], strict=True))
            with given(live, numbers):
                loss = functional_call(whole, state, (batch._replace(x=x, index=index),))
            for name, value in zip(rest, others, strict=True):
                if state[name] is not value:
                    raise NotTraceable(f"the buffer {name} is replaced, not changed in place")
            gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
            return loss.detach(), *gradients

        parameters = list(trained.values())
        assert batch.x is not None
        values = [*parameters, *rest.values(), batch.x, batch.index]
        values += self._live_values(parameters[0])
        graph = compiled(traced(loss_and_gradients, values), values)
        return Compiled(graph, parameters, list(rest.values()))

    def _live(self) -> Iterator[tuple[Any, str]]:
        """Who holds a number that may change between steps, and its name there."""
        for holder in (*runtime._PYRO_STACK, self.whole.objective):
            for name in LIVE.get(type(holder), ()):
                yield holder, name

    def _live_values(self, like: Tensor) -> list[Tensor]:
        return [torch.as_tensor(getattr(*pair), dtype=like.dtype, device=like.device)
                for pair in self._live()]  # fmt: skip


@contextmanager
def given(live: Sequence[tuple[Any, str]], numbers: Sequence[Tensor]) -> Iterator[None]:
    """Inside, the holders' numbers are these."""
    before = [getattr(holder, name) for holder, name in live]
    try:
        for (holder, name), number in zip(live, numbers, strict=True):
            setattr(holder, name, number)
        yield
    finally:
        for (holder, name), number in zip(live, before, strict=True):
            setattr(holder, name, number)
