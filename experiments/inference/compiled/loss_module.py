"""A model, a guide and an objective as one module whose output is the loss of a step."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from experiments.inference.compiled.graph import NotTraceable
from experiments.inference.objectives.base import Objective
from experiments.inference.pair import Buffers, cuda_devices
from ppl_models.batch import Batch


class LossModule(nn.Module):
    """Everything that a step reads or writes, so that a graph can take it as arguments."""

    def __init__(self, model: Any, guide: Any, objective: Objective) -> None:
        super().__init__()
        self.model, self.guide, self.objective = model, guide, objective
        penalties = getattr(objective, "penalties", ())
        self.penalties = nn.ModuleList(part for part in penalties if isinstance(part, nn.Module))

    @property
    def objectives(self) -> list[Any]:
        """The objective, and those inside it."""
        found = [self.objective]
        while inner := getattr(found[-1], "objective", None):
            found.append(inner)
        return found

    def forward(self, batch: Batch) -> Tensor:
        """The loss [nats per data point]."""
        return self.objective.differentiable_loss(self.model, self.guide, batch) / batch.size

    def why_eager(self, batch: Batch) -> str | None:
        """Why the objective's loss on such a batch is no graph, if it is none."""
        return self.objective.why_eager(self.model, self.guide, batch)

    @torch.no_grad()
    def rehearse(self, batch: Batch) -> None:
        """The loss once: Pyro's checks of it, and whatever is made at a first call; no trace."""
        for part in self.penalties:
            part.start()  # type: ignore[operator]
        with Buffers(self).kept(), torch.random.fork_rng(devices=cuda_devices(batch.index)):
            self(batch)


class Place(NamedTuple):
    """Where a module keeps a parameter or buffer: its module and name, the dictionary, and it."""

    module: str
    name: str
    tensors: dict[str, Any]
    tensor: Tensor


@contextmanager
def swapped(module: nn.Module, inside: dict[int, Tensor]) -> Iterator[list[Place]]:
    """Inside, parameters and buffers are others; each place once, however many modules lead there.

    Args:
        module: with all parts.
        inside: what takes the place of a tensor, by its ``id``.
    """
    before = [
        Place(place, name, kept, tensor)
        for place, part in module.named_modules()
        for kept in (part._parameters, part._buffers)
        for name, tensor in kept.items()
        if tensor is not None
    ]
    places = [place._replace(tensor=inside[id(place.tensor)]) for place in before]
    try:
        for place in places:
            place.tensors[place.name] = place.tensor
        yield places
    finally:
        for place in before:
            place.tensors[place.name] = place.tensor


def check_in_place(places: list[Place]) -> None:
    """Refuse a buffer that a forward replaces, where a graph only sees changes in place.

    Raises:
        NotTraceable: With its name.
    """
    for place in places:
        if place.tensors[place.name] is not place.tensor:
            name = f"{place.module}.{place.name}"
            raise NotTraceable(f"the buffer {name} is replaced, not changed in place")
