"""What ``SVI`` takes as ``optim``, and the optimizers that it becomes."""

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from pyro.optim import HorovodOptimizer, PyroOptim
from torch import nn
from torch.optim import Optimizer

from experiments.inference.optim.choices import global_parameters
from experiments.inference.optim.light import Adam
from experiments.inference.optim.pyro_adapter import PyroOptimizer
from experiments.inference.optim.rows import local_tables

Optim: TypeAlias = (
    Optimizer | Sequence[Optimizer] | PyroOptim | Callable[[list[nn.Parameter]], Optimizer]
)
"""A torch optimizer or several, a Pyro optimizer, or a function from parameters to one."""


def optimizers_of(optim: Optim | None, model: nn.Module, guide: nn.Module) -> list[Any]:
    """The optimizers of a pair's global parameters; Adam at rate 0.01 by default.

    Raises:
        TypeError: If ``optim`` is something else.
        ValueError: If it moves parameters of another pair, or rows of a per-datum guide.
    """
    parameters = global_parameters(model, guide, frozen=True)  # frozen ones may be trained later
    if optim is None:
        optim = functools.partial(Adam, lr=0.01, fused=True)
    if isinstance(optim, PyroOptim) and not isinstance(optim, HorovodOptimizer):
        places = (("model", model), ("guide", guide))
        rows = {id(table.rows) for table in local_tables(model, guide)}
        named = {
            f"{place}.{name}": parameter
            for place, module in places
            for name, parameter in module.named_parameters()
            if id(parameter) not in rows
        }
        once = {id(parameter): name for name, parameter in named.items()}
        return [PyroOptimizer(optim, {name: named[name] for name in once.values()})]
    if callable(optim) and not isinstance(optim, (PyroOptim, Optimizer)):
        optim = optim(parameters) if parameters else []
    found = [optim] if isinstance(optim, Optimizer) else optim
    if not isinstance(found, Sequence) or not all(isinstance(o, Optimizer) for o in found):
        raise TypeError(
            f"optim is {type(optim).__name__}: give a torch.optim optimizer, a pyro.optim one, or "
            "a function from parameters to an optimizer, such as "
            "lambda parameters: torch.optim.Adam(parameters, lr=0.01)."
        )
    for optimizer in found:
        closure = inspect.signature(optimizer.step).parameters.get("closure")
        if closure is not None and closure.default is closure.empty:
            raise TypeError(
                f"{type(optimizer).__name__} evaluates the loss several times per step, which SVI "
                "does not offer: take Adam or SGD."
            )
    _check_parameters(found, model, guide)
    return list(found)


def _check_parameters(found: Sequence[Optimizer], model: nn.Module, guide: nn.Module) -> None:
    own = {id(p) for module in (model, guide) for p in module.parameters()}
    rows = {id(table.rows) for table in local_tables(model, guide)}
    moved = [p for optimizer in found for group in optimizer.param_groups for p in group["params"]]
    if rows & {id(p) for p in moved}:
        raise ValueError(
            "rows of a per-datum guide have their own optimizer: leave them out of optim "
            "(global_parameters(model, guide) gives the others)."
        )
    foreign = [list(p.shape) for p in moved if id(p) not in own]
    if foreign:
        raise ValueError(
            f"{len(foreign)} of the {len(moved)} parameters of optim belong to neither model nor "
            f"guide (shapes {foreign[:3]}{'...' if len(foreign) > 3 else ''}): build it from "
            "global_parameters(model, guide), after both are on their device."
        )


def check_present(
    moved: Iterable[nn.Parameter], own: Iterable[nn.Parameter], model: nn.Module, guide: nn.Module
) -> None:
    """Refuse a pair whose parameters were replaced, so that no optimizer updates the new ones.

    Args:
        moved: the parameters that the optimizers update.
        own: the pair's parameters when ``SVI`` was made.
        model: p, as it is now.
        guide: q, as it is now.

    Raises:
        ValueError: If a trainable one was replaced, as by ``load_state_dict(..., assign=True)``.
    """
    moved = [*moved]
    present = {id(p): p for part in (model, guide) for p in part.parameters()}
    known = {id(p) for p in (*own, *moved)}
    new = any(p.requires_grad for key, p in present.items() if key not in known)
    if new and any(id(p) not in present for p in moved):
        raise ValueError(
            "parameters of the pair were replaced after SVI was made, and no optimizer has the "
            "new ones: make a new SVI after replacing a layer or loading a state with "
            "assign=True."
        )


def rate_of(optimizers: Sequence[Any]) -> float:
    """The learning rate of the first group of parameters that are trained; else NaN."""
    groups = (group for optimizer in optimizers for group in optimizer.param_groups)
    trained = (g for g in groups if any(p.requires_grad for p in g["params"]))
    return next((float(group["lr"]) for group in trained if "lr" in group), math.nan)
