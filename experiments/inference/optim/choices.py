"""Optimisers of a pair's global parameters; rows of per-datum guides have their own."""

import torch
from torch import nn

from experiments.inference.optim.light import Adam, Adamax
from experiments.inference.optim.muon import Muon
from experiments.inference.optim.rows import local_tables

LEAST_SIDE = 16
"""Rows and columns of a matrix whose steps are worth an orthogonalisation."""


def global_parameters(*modules: nn.Module, frozen: bool = False) -> list[nn.Parameter]:
    """Trainable parameters that are not rows of per-datum tables, and ``frozen`` ones if asked."""
    rows = {id(table.rows) for table in local_tables(*modules)}
    parameters = {
        id(p): p
        for module in modules
        for p in module.parameters()
        if p.requires_grad or (frozen and p.is_floating_point())
    }
    return [p for key, p in parameters.items() if key not in rows]


def adam(
    model: nn.Module, guide: nn.Module, lr: float = 0.01
) -> torch.optim.Optimizer | list[torch.optim.Optimizer]:
    """Adam over the global parameters of a pair, or no optimizer where there are none."""
    parameters = global_parameters(model, guide)
    return Adam(parameters, lr=lr, fused=True) if parameters else []


def adamax(
    model: nn.Module,
    guide: nn.Module,
    lr: float = 0.01,
    weight_decay: float = 3e-4,
    eps: float = 1e-3,
) -> torch.optim.Optimizer:
    """Adamax as NVAE was published with it: the weight decay is added to the gradient.

    References:
        Kingma & Ba (2015); Vahdat & Kautz (2020).
    """
    parameters = global_parameters(model, guide)
    return Adamax(parameters, lr=lr, eps=eps, weight_decay=weight_decay, foreach=True)


def muon(model: nn.Module, guide: nn.Module, lr: float = 0.01) -> list[torch.optim.Optimizer]:
    """Muon for the guide's weight matrices at half the rate, Adam for everything else.

    Muon's steps have the same size in every direction of the input, where Adam's excite the
    directions in which pixels hardly vary: linear encoders reach their optimum where Adam is still
    nats away.

    References:
        Jordan et al. (2024), Muon.
    """
    matrices = [p for p in global_parameters(guide) if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    rest = [p for p in global_parameters(model, guide) if id(p) not in chosen]
    optimizers: list[torch.optim.Optimizer] = []
    if matrices:
        optimizers.append(Muon(matrices, lr=lr / 2))
    if rest:
        optimizers.append(Adam(rest, lr=lr, fused=True))
    return optimizers


def hierarchical_muon(
    model: nn.Module, guide: nn.Module, lr: float = 0.01, weight_decay: float = 0.0
) -> list[torch.optim.Optimizer]:
    """Muon for a hierarchy's convolutions and matrices, Adam at 0.15 of the rate for the rest.

    The rest are vectors, maps, and convolutions that only a few channels enter or leave; their
    weights do not decay.

    References:
        Jordan et al. (2024), Muon.
    """
    parameters = global_parameters(model, guide)
    wide = [p for p in parameters if p.ndim in (2, 4) and min(p.flatten(1).shape) >= LEAST_SIDE]
    chosen = {id(p) for p in wide}
    rest = [p for p in parameters if id(p) not in chosen]
    optimizers: list[torch.optim.Optimizer] = [Adam(rest, lr=0.15 * lr, fused=True)]
    if not wide:
        return optimizers
    return [Muon(wide, lr=lr, weight_decay=weight_decay), *optimizers]


OPTIMIZERS = {"adam": adam, "muon": muon}
