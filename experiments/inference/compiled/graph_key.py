"""What is constant in a graph, as the key that finds it: a change of it requires another graph."""

import functools
import os
import random
from argparse import Namespace
from collections import deque
from collections.abc import Callable, Hashable
from types import BuiltinFunctionType, FunctionType, MethodType, SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from pyro.poutine import runtime
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack
from torch.utils import _pytree as pytree

from experiments.inference.compiled.graph import NotTraceable
from experiments.inference.compiled.names import (
    Read,
    contents_of,
    function_in,
    is_users,
    reads_of,
    steps_to,
    value_at,
)
from ppl_models.batch import Batch
from ppl_models.coordinates import is_ours

PLAIN = frozenset((bool, int, float, str, complex, type(None), torch.dtype, torch.Size))
CONTAINERS = (dict, list, tuple, set, frozenset, Namespace, SimpleNamespace)
NUMPY = (np.ndarray, np.generic)
GENERATORS = frozenset((random.Random, np.random.Generator, np.random.RandomState))
OF_TORCH = frozenset(vars(nn.Module())) - {"training"} | {"_rows_of"}
"""Attributes in which a module keeps its parts, which are handled elsewhere, and our note."""
BACKWARD_HOOKS = ("_backward_pre_hooks", "_backward_hooks")
HOOKS = ("_forward_pre_hooks", "_forward_hooks", *BACKWARD_HOOKS)
MOST_BYTES = 100_000
"""Of an array in a class or file; a larger one is data, not a setting."""
_settings: WeakKeyDictionary[FunctionType, list[Read]] = WeakKeyDictionary()
"""Function -> where its settings lie, which are looked for once."""


@functools.cache
def names_outside(kind: type) -> list[Read]:
    """Values that a class holds for its objects, and those that its methods read outside."""
    found: dict[tuple[int, tuple[str, ...]], Read] = {}
    for one in kind.__mro__:
        if one is object or is_ours(one):
            continue
        own = vars(one)
        names = [n for n, v in own.items() if not n.startswith("__") and is_setting(v)]
        held: list[Read] = [(own, (name,)) for name in names]
        functions = [f for value in own.values() if (f := function_in(value))]
        read = [setting for f in functions for setting in settings_of(f)]
        found |= {(id(where), path): (where, path) for where, path in (*held, *read)}
    return list(found.values())


def settings_of(function: FunctionType) -> list[Read]:
    """Settings that a function reads outside, and those that a user's functions read for it.

    What methods of other objects read is not seen: many of them count, or log.
    """
    if (known := _settings.get(function)) is not None:
        return known
    functions, found = [function], list[Read]()
    for one in functions:  # which grow
        for read in reads_of(one):
            steps = list(steps_to(*read))
            found += [step for step, value in steps if is_setting(value)][:1]
            called = [f for _, f in steps if isinstance(f, FunctionType) and is_users(f)]
            functions += [f for f in called if f not in functions]
    _settings[function] = found
    return found


def is_setting(value: Any) -> bool:
    """Whether a graph depends on a value by what it holds; a draw changes a generator."""
    if isinstance(value, NUMPY):
        return value.nbytes <= MOST_BYTES
    return type(value) in PLAIN or type(value) in GENERATORS or is_small(value)


def is_small(value: Any) -> bool:
    """Whether it is a container of settings; one of data would be compared at every step."""
    if not isinstance(value, CONTAINERS):
        return False
    inside: Any = vars(value) if isinstance(value, Namespace | SimpleNamespace) else value
    parts = inside.values() if isinstance(inside, dict) else inside
    large = any(isinstance(part, np.ndarray) and part.nbytes > MOST_BYTES for part in parts)
    return len(inside) <= 100 and not large


def slots_of(kind: type) -> tuple[str, ...]:
    slots = kind.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def flat(batch: Batch) -> tuple[list[Tensor], Hashable]:
    """All tensors of a batch, and everything else of it."""
    if type(batch) is Batch and isinstance(batch.x, Tensor) and not batch.given:
        return [batch.x, batch.index], (Batch, batch.size, batch.repeats)
    leaves, structure = pytree.tree_flatten(batch)
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    return tensors, (structure, *(frozen(v) for v in leaves if not isinstance(v, Tensor)))


def flatten(batch: Batch) -> tuple[list[Tensor], Callable[[list[Tensor]], Batch]]:
    """All tensors of a batch, and what makes such a batch of others.

    Raises:
        NotTraceable: If it is neither a tuple nor a dictionary, whose parts cannot be seen.
    """
    leaves, structure = pytree.tree_flatten(batch)
    if leaves == [batch]:
        raise NotTraceable(f"the parts of a {type(batch).__name__} cannot be seen: use NamedTuple")
    where = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]

    def refill(tensors: list[Tensor]) -> Batch:
        found = list(leaves)
        for i, tensor in zip(where, tensors, strict=True):
            found[i] = tensor
        return pytree.tree_unflatten(found, structure)

    return [leaves[i] for i in where], refill


def autocast() -> tuple[bool, ...]:
    """Whether torch's automatic mixed precision is on, on each kind of device."""
    return tuple(map(torch.is_autocast_enabled, ("cpu", "cuda")))


def surroundings() -> Hashable:
    """The kinds of Pyro's handlers and torch's modes around a step."""
    around = (*runtime._PYRO_STACK, *_get_current_function_mode_stack())
    return *map(type, around), *autocast()


class Holder:
    """A module or an objective: its tensors are arguments of a graph, all else is its setting.

    Args:
        holder: the module or objective.
        live: names of its numbers that are arguments, too.
    """

    def __init__(self, holder: Any, live: tuple[str, ...]) -> None:
        self.holder, self.live = holder, live
        self.names: list[str] = []
        self.seen = -1
        kind: Any = type(holder)
        self.outside = names_outside(kind)

    def settings(self) -> list[Hashable]:
        """Plain values, the contents of containers, NumPy arrays, hooks; kinds of all others.

        What methods of other objects and functions of installed packages read is not seen.
        """
        own = vars(self.holder)
        if len(own) != self.seen:
            self.seen = len(own)
            self.names = [n for n in own if n not in OF_TORCH and n not in self.live]
        found: list[Hashable] = []
        for name in self.names:
            value = own.get(name)
            found.append(value if type(value) in PLAIN else frozen(value))
        for read in self.outside:
            value = value_at(*read)
            found.append(value if type(value) in PLAIN else frozen(value))
        return [*found, *(key for kind in HOOKS for key in own.get(kind, ()))]

    def tensors(self) -> list[tuple[Any, str]]:
        """Its attributes that are tensors, neither parameters nor buffers."""
        names = (n for n, v in vars(self.holder).items() if isinstance(v, Tensor))
        return [(self.holder, name) for name in names if name not in self.live]

    def owner(self, tensor: Tensor) -> str | None:
        """The name of an attribute whose container holds a tensor."""
        for name, value in vars(self.holder).items():
            if name in OF_TORCH or not isinstance(value, CONTAINERS):
                continue
            inside: Any = vars(value) if isinstance(value, Namespace | SimpleNamespace) else value
            if isinstance(value, set | frozenset):
                inside = list(value)  # which pytrees take for a leaf
            if any(leaf is tensor for leaf in pytree.tree_leaves(inside)):
                return f"in {type(self.holder).__name__}.{name}"
        return None


def frozen(value: Any, depth: int = 4) -> Hashable:
    """A value that can be compared: the contents of containers and of objects, or the kind."""
    kind: Any = type(value)
    if kind in PLAIN:
        return value
    if isinstance(value, NUMPY):
        return kind, value.shape, value.dtype.str, value.tobytes()
    if kind in GENERATORS:
        return kind, frozen(state_of(value))
    if isinstance(value, Tensor):
        return kind, value.shape, value.stride(), value.dtype, value.requires_grad
    if depth == 0:
        return kind
    if isinstance(value, dict):
        return kind, *((frozen(k), frozen(v, depth - 1)) for k, v in value.items())
    if isinstance(value, list | tuple | deque):
        return kind, *(frozen(part, depth - 1) for part in value)
    if isinstance(value, set | frozenset):
        return kind, frozenset(frozen(part, depth - 1) for part in value)
    if isinstance(value, nn.Module):
        return kind, 0
    if isinstance(value, FunctionType):
        cells = [contents_of(cell) for cell in value.__closure__ or ()]
        held = [] if is_ours(value) else [value_at(*read) for read in settings_of(value)]
        told = (*held, value.__defaults__, value.__kwdefaults__, *cells)
        return kind, id(value), *(frozen(part, depth - 1) for part in told)
    if isinstance(value, MethodType):
        return kind, frozen(value.__func__, depth - 1), frozen(value.__self__, depth - 1)
    if isinstance(value, functools.partial):
        told = (value.func, value.args, value.keywords)
        return kind, *(frozen(part, depth - 1) for part in told)
    if isinstance(value, type | BuiltinFunctionType) or (callable(value) and is_ours(kind)):
        return kind, id(value)
    if isinstance(value, os.PathLike):
        return kind, os.fspath(value)
    slots = [name for one in kind.__mro__ for name in slots_of(one)]
    parts = {name: getattr(value, name, None) for name in slots if not name.startswith("__")}
    parts |= getattr(value, "__dict__", {})
    own = id(value) if callable(value) else 0
    return kind, own, *((name, frozen(v, depth - 1)) for name, v in parts.items())


def state_of(generator: Any) -> Any:
    """The state of a generator of random numbers."""
    if isinstance(generator, random.Random):
        return generator.getstate()
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.get_state(legacy=False)
