"""A model and a guide in one module, and what a step may change besides parameters."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from pyro import poutine
from torch import Tensor, nn

from guides.local import LocalTable


class Pair(nn.Module):
    """A model and a guide in one module, to be moved, copied, saved and evaluated together."""

    model: Any
    guide: Any

    def __init__(self, model: nn.Module, guide: nn.Module) -> None:
        super().__init__()
        self.model, self.guide = model, guide

    @property
    def number_of_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())


def check_programs(*programs: Any) -> None:
    """Refuse a model or guide whose parameters cannot be found.

    Raises:
        TypeError: If one is not a module.
    """
    for program in programs:
        if isinstance(program, nn.Module):
            continue
        inside = poutine.unwrap(program)
        if isinstance(inside, nn.Module):
            raise TypeError(
                f"a handler around {type(inside).__name__} hides its parameters: use the "
                "handler in its forward (config_enumerate as @config_enumerate above it)."
            )
        raise TypeError(
            f"{program!r} is not a torch.nn.Module: call it in the forward of one, whose "
            "parameters can be found."
        )


class Buffers:
    """The buffers of modules: running means, vectors of power iterations.

    Args:
        programs: modules, bare or inside Pyro's handlers, whose buffers these are, including
            buffers added later; anything else has none.
    """

    def __init__(self, *programs: Any) -> None:
        modules = [part for part in map(poutine.unwrap, programs) if isinstance(part, nn.Module)]
        self.holders = [part._buffers for module in modules for part in module.modules()]

    def clone(self) -> list[tuple[dict[str, Tensor | None], str, Tensor, Tensor]]:
        """Every buffer, where it is held, and a copy of its values."""
        return [
            (holder, name, buffer, buffer.clone())
            for holder in self.holders
            for name, buffer in holder.items()
            if buffer is not None
        ]

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Inside, buffers may change; afterwards they are as before."""
        copies = self.clone()
        try:
            yield
        finally:
            self.restore(copies)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Inside, the modules write to copies; graphs keep what they hold."""
        copies = self.clone()
        try:
            for holder, name, _, copy in copies:
                holder[name] = copy
            yield
        finally:
            for holder, name, buffer, _ in copies:
                holder[name] = buffer

    @staticmethod
    @torch.no_grad()
    def restore(copies: list[tuple[dict[str, Tensor | None], str, Tensor, Tensor]]) -> None:
        """Undo all changes, in place or not, since ``clone``."""
        for holder, name, buffer, values in copies:
            holder[name] = buffer.copy_(values)


@contextmanager
def holding(live: Sequence[tuple[Any, str]], values: Sequence[Any]) -> Iterator[None]:
    """Inside, the holders' attributes have these values."""
    before = [getattr(holder, name) for holder, name in live]
    try:
        for (holder, name), value in zip(live, values, strict=True):
            setattr(holder, name, value)
        yield
    finally:
        for (holder, name), value in zip(live, before, strict=True):
            setattr(holder, name, value)


def sparse_gradients(tables: list[LocalTable]) -> AbstractContextManager[None]:
    """Inside, the gradient of a per-datum table holds the rows of the batch alone."""
    return holding([(table, "sparse") for table in tables], [True] * len(tables))
