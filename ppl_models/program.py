"""The base class of all programs."""

import itertools
import weakref
from collections.abc import Callable
from typing import Any, TypeGuard, TypeVar

import pyro
from torch import nn

from ppl_models.parameters import are_captured

T = TypeVar("T")

_numbers = itertools.count()
_names: "weakref.WeakKeyDictionary[Program, str]" = weakref.WeakKeyDictionary()


def closed_form(model: Any, name: str) -> Callable | None:
    """The method ``marginal`` or ``posterior`` of a model; None if it has none.

    A subclass that overrides a part of the story, such as ``forward`` or ``prior``, inherits no
    closed form; it may define its own.
    """
    method = getattr(model, name, None)
    owner = next((kind for kind in type(model).__mro__ if name in vars(kind)), type(model))
    return method if callable(method) and same_story(model, owner) else None


def same_story(model: Any, kind: type[T]) -> TypeGuard[T]:
    """Whether a model is of a class, or of a subclass that overrides no part of its story."""
    if not isinstance(model, kind):
        return False
    kinds = type(model).__mro__
    owner = kinds.index(kind)
    parts = {part for base in kinds[owner:] if base not in Program.__mro__ for part in vars(base)}
    overridden = {
        part
        for subclass in kinds[:owner]
        for part, value in vars(subclass).items()
        if part[:2] != "__" and not isinstance(value, classmethod | staticmethod)
    }
    return not overridden & (parts | {"forward"}) - {"posterior", "marginal"}


class Program(nn.Module):
    """A Pyro program whose parameters live in the module.

    While ``pyro.infer.SVI`` captures parameters, a call registers them under a name unique to the
    instance (a copy is another instance). At all other times the global parameter store
    stays untouched, so pairs cannot share or overwrite each other's parameters.

    Attributes:
        vectorises: whether the program accepts an extra leading dimension for particles.
    """

    vectorises: bool = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if are_captured():
            name = _names.setdefault(self, f"{type(self).__name__}{next(_numbers)}")
            pyro.module(name, self)
        return super().__call__(*args, **kwargs)
