"""The gradient of a step as one compiled graph: model, guide, objective, and its derivative.

Pyro's effect handlers and autograd only run while the graph is traced. Values that may change from
step to step are arguments of the graph: parameters, buffers, data, and the numbers that handlers
and objectives list as live (``LIVE``).
"""

import time
import warnings
from collections.abc import Callable, Hashable, Iterator
from itertools import chain, islice
from typing import Any

import torch
from pyro.poutine import runtime
from torch import Tensor

from experiments.inference.checkpointing import is_checkpointed
from experiments.inference.compiled.graph import (
    NotTraceable,
    can_compile,
    compiled,
    is_read,
    traced,
)
from experiments.inference.compiled.graph_key import (
    BACKWARD_HOOKS,
    Holder,
    autocast,
    flat,
    flatten,
    surroundings,
)
from experiments.inference.compiled.loss_module import (
    Compiled,
    Known,
    LossModule,
    accumulate,
    has_hook,
    kind_of,
    places_of,
    swapped,
    tensors_at,
)
from experiments.inference.handlers import TemperKL
from experiments.inference.objectives.base import Objective
from experiments.inference.objectives.free_bits import FreeBits
from experiments.inference.objectives.nvae import Regularised
from experiments.inference.optim.rows import local_tables
from experiments.inference.pair import holding
from ppl_models.batch import Batch

LIVE: dict[type, tuple[str, ...]] = {
    TemperKL: ("beta",),
    Regularised: ("weight",),
    FreeBits: ("free_bits",),
}
"""Numbers that may change between steps, by their holder. Steps with other handlers run
eagerly."""


def unknown_handlers() -> list[str]:
    """The kinds of Pyro's handlers around a step that no graph knows."""
    return [type(handler).__name__ for handler in runtime._PYRO_STACK if type(handler) not in LIVE]


class CompileWarning(UserWarning):
    """A step that was to be compiled runs eagerly."""


MOST_GRAPHS = 16
"""Maximum number of graphs per pair; more would mean that something changes at every step."""


class CompiledGradients:
    """Compiled replacement for ``SVI.eager``, with one graph per batch shape.

    A graph is made at the first step with a batch of its shape, in the modules' mode and under the
    handlers of that step. A step that cannot be compiled runs eagerly, with one warning that says
    why.

    Args:
        model: p(x, z).
        guide: q(z | x).
        objective: the objective whose loss and gradients are computed.
        eager: function that adds the gradients of a step that cannot be compiled.

    Attributes:
        objective: may be replaced between steps.
        seconds: time spent on tracing and compiling.
        reasons: why steps ran eagerly.
    """

    def __init__(
        self, model: Any, guide: Any, objective: Objective, eager: Callable[[Batch], Tensor]
    ) -> None:
        self.module, self.eager = LossModule(model, guide, objective), eager
        self.objective = objective
        self.holders: list[Holder] = []
        self.known = Known([], [])
        self.graphs: dict[Hashable, Compiled | None] = {}
        self.seconds = 0.0
        self.reasons: list[str] = []

    def __call__(self, batch: Batch) -> Tensor:
        """Add the loss's gradient to the parameters'; the loss, detached [nats per data point]."""
        given, structure = flat(batch)
        made = self._graph_for(batch, given, structure)
        if made is None:
            return self.eager(batch)
        for number, (holder, name) in zip(made.live, self._live(), strict=True):
            number.fill_(getattr(holder, name))
        with torch.no_grad():
            owned = (getattr(*attribute) for attribute in made.attributes)
            rest = tensors_at(made.rest)
            loss, *gradients = made.graph(*made.trained, *rest, *given, *owned, *made.live)
        accumulate(made.trained, gradients)
        return loss

    def _graph_for(
        self, batch: Batch, given: list[Tensor], structure: Hashable
    ) -> Compiled | None:
        """The graph for such a batch, made at the first one of its kind."""
        if self.objective is not self.module.objective or self.known.changed():
            self._look()
        key = self._key(given, structure)
        try:
            return self.graphs[key]
        except KeyError:
            if len(self.graphs) > MOST_GRAPHS:
                return None
        if isinstance(self.objective, Objective) and not unknown_handlers():
            self.module.rehearse(batch)  # a first call may make parts, and checks read values
        self._look()
        key = self._key(given, structure)
        if key not in self.graphs:
            self.graphs[key] = self._make(batch)
        return self.graphs[key]

    def _look(self) -> None:
        """Find the modules and objectives that a step reads."""
        if self.objective is not self.module.objective:
            self.module = LossModule(self.module.model, self.module.guide, self.objective)
        parts = list(self.module.modules())[1:] if isinstance(self.objective, Objective) else []
        self.known = Known(parts, self.module.objectives)
        self.holders = [Holder(one, LIVE.get(type(one), ())) for one in self.known.members]

    def _key(self, given: list[Tensor], structure: Hashable) -> Hashable:
        """Everything that is constant in a graph."""
        tensors = [*given, *(kept.get(name) for kept, name in self.known.places)]
        return (
            structure,
            surroundings(),
            self.known.ids,
            *chain.from_iterable(holder.settings() for holder in self.holders),
            *map(kind_of, tensors),
        )

    def _make(self, batch: Batch) -> Compiled | None:
        began = time.perf_counter()
        try:
            self._check_possible(batch)
            return self._compiled(batch)
        except NotTraceable as reason:
            words = str(reason)
            if words not in self.reasons:
                self.reasons.append(words)
                said = f"this step cannot be compiled and runs eagerly: {words}."
                warnings.warn(said, CompileWarning, stacklevel=4)
            return None
        finally:
            self.seconds += time.perf_counter() - began

    def _check_possible(self, batch: Batch) -> None:
        module = self.module
        if len(self.graphs) == MOST_GRAPHS:
            raise NotTraceable(f"shapes or settings have changed {MOST_GRAPHS} times")
        if not batch.index.is_cuda and not can_compile():
            raise NotTraceable("no C++ compiler is installed (g++, or what $CXX names)")
        if not isinstance(module.objective, Objective):
            raise NotTraceable("Pyro's own ELBOs read values in Python")
        if any(table.rows.requires_grad for table in local_tables(module)):
            raise NotTraceable("rows of a per-datum guide are updated sparsely")
        if is_checkpointed(module):
            raise NotTraceable("a graph keeps what --checkpoint-levels computes a second time")
        programs = module.model, module.guide
        reasons = (one.why_eager(*programs, batch) for one in self.known.objectives)
        if reason := next(filter(None, reasons), None):
            raise NotTraceable(reason)
        if any(map(has_hook, tensors_at(self.known.places))):
            raise NotTraceable("a hook is registered on a parameter's gradient")
        if any(getattr(part, kind) for part in module.modules() for kind in BACKWARD_HOOKS):
            raise NotTraceable("a backward hook is registered on a module")
        if any(autocast()):
            raise NotTraceable("autocast chooses types while a graph is traced")
        if names := unknown_handlers():
            raise NotTraceable(f"it knows no handler {names[0]}")

    def _compiled(self, batch: Batch) -> Compiled:
        module, live = self.module, list(self._live())
        trained = [p for p in module.parameters() if p.requires_grad]
        frozen = [p for p in module.parameters() if not p.requires_grad]
        rest: list[Tensor] = [*frozen, *module.buffers()]
        given, refill = flatten(batch)
        attributes = [pair for holder in self.holders for pair in holder.tensors()]
        replaced: set[int] = set()

        def loss_and_gradients(*values: Tensor) -> tuple[Tensor | None, ...]:
            inputs = iter(values)
            leaves = [p.detach().requires_grad_() for p in islice(inputs, len(trained))]
            others = list(islice(inputs, len(rest)))
            rows, owned = list(islice(inputs, len(given))), list(inputs)
            inside = dict(zip(map(id, [*trained, *rest]), [*leaves, *others], strict=True))
            with holding([*attributes, *live], owned), swapped(module, inside):
                loss = module(refill(rows))
                replaced.update(
                    place
                    for place, (holder, name) in enumerate(attributes)
                    if getattr(holder, name) is not owned[place]
                )
            gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
            return loss.detach(), *gradients

        values = [*trained, *rest, *given, *(getattr(*pair) for pair in attributes)]
        numbers = [trained[0].new_tensor(float(getattr(*pair))) for pair in live]
        values += numbers
        operations = traced(loss_and_gradients, values, self._owner)
        first = len(trained) + len(rest) + len(given)
        for place in replaced:
            if is_read(operations, first + place):
                name = attributes[place][1]
                raise NotTraceable(f"the attribute {name} is read and replaced: make it a buffer")
        graph = compiled(operations, values)
        home = {id(kept[name]): (kept, name) for kept, name in places_of(module).values()}
        places = [home[id(tensor)] for tensor in rest]
        return Compiled(graph, trained, places, attributes, numbers, self.known)

    def _owner(self, tensor: Tensor) -> str:
        """The owner of a tensor, if it can be found."""
        found = (holder.owner(tensor) for holder in self.holders)
        return next(filter(None, found), f"{list(tensor.shape)} outside of the modules")

    def _live(self) -> Iterator[tuple[Any, str]]:
        """Who holds a number that may change between steps, and its name there."""
        for holder in (*runtime._PYRO_STACK, *self.known.objectives):
            for name in LIVE.get(type(holder), ()):
                yield holder, name
