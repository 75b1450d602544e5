"""A model, a guide and an objective as one module whose output is the loss of a step."""

import itertools
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from experiments.inference.compiled.graph import Graph, NotTraceable
from experiments.inference.objectives.base import Objective, penalties_of
from experiments.inference.pair import Buffers
from ppl_models.batch import Batch
from ppl_models.random_numbers import forked_rng


class LossModule(nn.Module):
    """Everything that a step reads or writes, so that a graph can take it as arguments."""

    def __init__(self, model: Any, guide: Any, objective: Objective) -> None:
        super().__init__()
        self.model, self.guide, self.objective = model, guide, objective
        for i, part in enumerate(penalties_of(objective)):
            self.add_module(f"penalty{i}", part)

    @property
    def objectives(self) -> list[Any]:
        """The objective, and those inside it."""
        found: list[Any] = [self.objective]
        for one in found:  # which grow
            for part in pytree.tree_leaves(vars(one)):
                if isinstance(part, Objective) and all(part is not other for other in found):
                    found.append(part)
        return found

    def forward(self, batch: Batch) -> Tensor:
        """The loss [nats per data point]."""
        return self.objective.differentiable_loss(self.model, self.guide, batch) / batch.size

    @torch.no_grad()
    def rehearse(self, batch: Batch) -> None:
        """The loss once: Pyro's checks of it, and whatever is made at a first call; no trace."""
        for part in penalties_of(self.objective):
            part.start()
        with Buffers(self).kept(), forked_rng():
            self(batch)


Place: TypeAlias = tuple[dict[str, Any], str]
"""Where a module keeps a parameter or buffer, and its name there: the tensor may be replaced."""


class Known:
    """The modules and objectives that a step reads, and where they keep parameters and buffers.

    Args:
        modules: model, guide and penalties, with all their parts.
        objectives: the objective, and those inside it.
    """

    def __init__(self, modules: Sequence[nn.Module], objectives: Sequence[Any]) -> None:
        self.objectives, self.members = objectives, (*modules, *objectives)
        self.ids = tuple(map(id, self.members))
        self.parts = [part._modules.values() for part in modules]  # views, which stay current
        self.kept: list[dict[str, Any]] = [
            kept for part in modules for kept in (part._parameters, part._buffers)
        ]
        self.places: list[Place] = [(kept, name) for kept in self.kept for name in kept]
        self.before = self._now()

    def changed(self) -> bool:
        """Whether a part has come, gone or been replaced since, or a tensor has come or gone."""
        return self._now() != self.before

    def _now(self) -> list[int]:
        return [sum(map(len, self.kept)), *map(id, itertools.chain.from_iterable(self.parts))]


class Compiled(NamedTuple):
    """A graph and its arguments other than the batch and the live numbers."""

    graph: Graph
    trained: list[nn.Parameter]
    rest: list[Place]
    attributes: list[tuple[Any, str]]
    live: list[Tensor]
    known: Known
    """What its key names by ids, which are no other's as long as it is alive."""


def has_hook(tensor: Tensor) -> bool:
    """Whether a parameter has a hook on its gradient, which a graph would skip."""
    return bool(tensor._backward_hooks or tensor._post_accumulate_grad_hooks)


def kind_of(tensor: Tensor | None) -> Hashable:
    """What a graph takes for granted of a tensor among its arguments."""
    if tensor is None:
        return None
    trained = tensor.requires_grad and id(tensor)
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device, trained, has_hook(tensor)


def places_of(module: nn.Module) -> dict[str, Place]:
    """Of all parameters and buffers, by their full names."""
    return {
        f"{path}.{name}": (kept, name)
        for path, part in module.named_modules()
        for kept in (part._parameters, part._buffers)
        for name, tensor in kept.items()
        if tensor is not None
    }


def tensors_at(places: Iterable[Place]) -> list[Tensor]:
    """The tensors that lie there now; one that is gone shortens the list."""
    return [tensor for kept, name in places if (tensor := kept.get(name)) is not None]


@contextmanager
def swapped(module: nn.Module, inside: dict[int, Tensor]) -> Iterator[None]:
    """Inside, parameters and buffers are others; each place once, however many modules lead there.

    Args:
        module: the module, with all its parts.
        inside: replacement of every tensor, by the ``id`` of the tensor.

    Raises:
        NotTraceable: If a buffer is replaced inside, where a graph only sees changes in place.
    """
    places = places_of(module)
    before = tensors_at(places.values())
    others = [inside[id(tensor)] for tensor in before]
    try:
        for (kept, name), tensor in zip(places.values(), others, strict=True):
            kept[name] = tensor
        yield
        for (path, (kept, name)), tensor in zip(places.items(), others, strict=True):
            if kept[name] is not tensor:
                raise NotTraceable(f"the buffer {path} is replaced, not changed in place")
    finally:
        for (kept, name), tensor in zip(places.values(), before, strict=True):
            kept[name] = tensor


def accumulate(parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]) -> None:
    """Add gradients to those that parameters hold."""
    taken = set[int]()
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            if id(gradient) in taken:  # two parameters with one gradient, as in a + b
                gradient = gradient.clone()
            taken.add(id(gradient))
            gradient = laid_out(gradient, parameter)
            parameter.grad = gradient if (held := parameter.grad) is None else held + gradient


def laid_out(gradient: Tensor, parameter: nn.Parameter) -> Tensor:
    """A gradient with its parameter's strides, as autograd leaves it.

    Adam's fused kernel on a CPU reads both in the order of memory, whatever their strides. The
    stride of a side of one entry has no effect, unless it is zero: that of another's view.
    """
    strides, wanted = gradient.stride(), parameter.stride()
    sides = zip(parameter.shape, strides, wanted, strict=True)
    if strides == wanted or all(a == b or (n == 1 and a) for n, a, b in sides):
        return gradient
    return torch.empty_like(parameter).copy_(gradient)
