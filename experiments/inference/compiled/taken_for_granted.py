"""The constants of a graph: a change of one of them requires another graph."""

from argparse import Namespace
from collections.abc import Callable, Hashable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from experiments.inference.compiled.graph import NotTraceable
from ppl_models.batch import Batch

PLAIN = frozenset((bool, int, float, str, complex, type(None), torch.dtype, torch.Size))
CONTAINERS = (dict, list, tuple, set, frozenset, Namespace, SimpleNamespace)
OF_TORCH = frozenset(vars(nn.Module())) - {"training"}
"""Attributes in which a module keeps its parts, which are handled elsewhere."""


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

    def settings(self) -> list[Hashable]:
        """Plain values, the contents of containers, NumPy arrays, hooks; kinds of all others."""
        own = vars(self.holder)
        if len(own) != self.seen:
            self.seen = len(own)
            self.names = [n for n in own if n not in OF_TORCH and n not in self.live]
        found: list[Hashable] = []
        for name in self.names:
            value = own.get(name)
            found.append(value if type(value) in PLAIN else frozen(value))
        return [*found, *own.get("_forward_pre_hooks", ()), *own.get("_forward_hooks", ())]

    def tensors(self) -> list[tuple[Any, str]]:
        """Its attributes that are tensors, neither parameters nor buffers."""
        names = (n for n, v in vars(self.holder).items() if isinstance(v, Tensor))
        return [(self.holder, name) for name in names if name not in self.live]

    def owner(self, tensor: Tensor) -> str | None:
        """The name of an attribute whose container holds a tensor."""
        for name, value in vars(self.holder).items():
            if name in OF_TORCH or not isinstance(value, CONTAINERS):
                continue
            inside = value if isinstance(value, dict | list | tuple | set) else vars(value)
            if any(leaf is tensor for leaf in pytree.tree_leaves(inside)):
                return f"in {type(self.holder).__name__}.{name}"
        return None


def frozen(value: Any, depth: int = 4) -> Hashable:
    """A value that can be compared: the contents of containers and of objects, or the kind."""
    kind: Any = type(value)
    if kind in PLAIN:
        return value
    if isinstance(value, np.ndarray):
        return kind, value.shape, value.dtype.str, value.tobytes()
    if isinstance(value, np.generic):
        return kind, value.item()
    if isinstance(value, Tensor):
        return kind, value.shape, value.stride(), value.dtype, value.requires_grad
    if depth == 0:
        return kind
    if isinstance(value, dict):
        return kind, *((frozen(k), frozen(v, depth - 1)) for k, v in value.items())
    if isinstance(value, list | tuple):
        return kind, *(frozen(part, depth - 1) for part in value)
    if isinstance(value, set | frozenset):
        return kind, frozenset(frozen(part, depth - 1) for part in value)
    if callable(value) or not hasattr(value, "__dict__"):
        return kind, id(value) if callable(value) and not isinstance(value, nn.Module) else 0
    return kind, *((name, frozen(v, depth - 1)) for name, v in vars(value).items())
