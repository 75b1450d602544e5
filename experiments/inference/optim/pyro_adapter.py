"""Pyro's optimizers behind the interface of torch's."""

from collections.abc import Iterable
from typing import Any

import pyro
import torch
from pyro.optim import PyroLRScheduler, PyroOptim
from pyro.optim.optim import _get_state_dict, _load_state_dict
from torch import nn


class PyroOptimizer:
    """A ``pyro.optim`` optimizer over parameters that live in modules.

    Pyro makes one torch optimizer per parameter, with arguments that may depend on the
    parameter's name in the global store. Here they are made under the names of the modules
    (``model.decoder.weight``), and the global store stays as it is.

    Args:
        optim: Pyro's optimizer.
        named: the parameters it moves, by name.

    Attributes:
        scheduled: whether it changes its learning rates itself.
        size: N. Gradients are those of a mean over N rows, and Pyro's are those of the sum.

    Raises:
        ValueError: If it was used or loaded before: its state has names of the global store.
    """

    def __init__(self, optim: PyroOptim, named: dict[str, nn.Parameter]) -> None:
        if optim.optim_objs or optim._state_waiting_to_be_consumed:
            raise ValueError("a pyro.optim optimizer serves one SVI: make a new one.")
        self.optim, self.named, self.size = optim, named, 1
        self.scheduled = isinstance(optim, PyroLRScheduler)
        if not self.scheduled:
            self._make(named)

    def _make(self, names: Iterable[str]) -> None:
        """Pyro's optimizers of such parameters, while the store knows their names."""
        store = pyro.get_param_store()
        with store.scope():
            for name in names:
                parameter: Any = self.named[name]
                store._param_to_name[parameter] = name.replace(".", "$$$", 1)
                self.optim.optim_objs[parameter] = self.optim._get_optim(parameter)
                self.optim.grad_clip[parameter] = self.optim._get_grad_clip(parameter)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        made = self.optim.optim_objs
        waiting = [parameter for parameter in self.named.values() if parameter not in made]
        optimizers = [each.optimizer if self.scheduled else each for each in made.values()]
        return [*(g for each in optimizers for g in each.param_groups), {"params": waiting}]

    @torch.no_grad()
    def step(self) -> None:
        """One step along N times the gradients."""
        moved = {name: p for name, p in self.named.items() if p.grad is not None}
        # A scheduler is made at the first gradient: it complains if its optimizer never moves.
        self._make(name for name, p in moved.items() if p not in self.optim.optim_objs)
        for parameter in moved.values():
            parameter.grad.mul_(self.size)  # type: ignore[union-attr]
        self.optim(list(moved.values()))

    def state_dict(self) -> dict[str, Any]:
        """The state of every torch optimizer and scheduler, by the parameter's name."""
        made = self.optim.optim_objs
        return {n: _get_state_dict(made[p]) for n, p in self.named.items() if p in made}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._make(name for name in state if self.named[name] not in self.optim.optim_objs)
        for name, saved in state.items():
            _load_state_dict(self.optim.optim_objs[self.named[name]], saved)
