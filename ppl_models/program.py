"""The base class of all programs."""

import itertools
import weakref
from typing import Any

import pyro
from torch import nn

from ppl_models.parameters import are_captured

_numbers = itertools.count()
_names: "weakref.WeakKeyDictionary[Program, str]" = weakref.WeakKeyDictionary()


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
