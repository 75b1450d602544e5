"""Optimizers of torch that do not load its compiler, which takes seconds and is not used."""

from typing import Any

import torch


def _inside(method: Any) -> Any:
    """A method of torch without the wrapper that loads the compiler at the first call."""
    return getattr(method, "__wrapped__", method)


class Light:
    """A mixin that stands before the optimizer of torch among the bases of a class."""

    add_param_group = _inside(torch.optim.Optimizer.add_param_group)
    state_dict = _inside(torch.optim.Optimizer.state_dict)
    load_state_dict = _inside(torch.optim.Optimizer.load_state_dict)
    zero_grad = _inside(torch.optim.Optimizer.zero_grad)


class Adam(Light, torch.optim.Adam):
    """``torch.optim.Adam``, with the same numbers."""

    step = torch.no_grad()(_inside(torch.optim.Adam.step))


class Adamax(Light, torch.optim.Adamax):
    """``torch.optim.Adamax``, with the same numbers."""

    step = torch.no_grad()(_inside(torch.optim.Adamax.step))
