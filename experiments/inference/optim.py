"""Optimisers and learning-rate schedules."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import nn

from guides.local import LocalTable

__all__ = ["SCHEDULES", "RowAdam", "constant", "cosine", "local_tables"]

Schedule = Callable[[float], float]
"""Progress in [0, 1) -> factor on the learning rate."""


def constant(warmup: float = 0.0) -> Schedule:
    """One, after a linear warm-up over the given fraction of training."""
    return lambda progress: min(1.0, progress / warmup) if warmup > 0 else 1.0


def cosine(warmup: float = 0.0) -> Schedule:
    """Half a cosine down to zero, after a linear warm-up over the given fraction of training."""

    def factor(progress: float) -> float:
        if progress < warmup:
            return progress / warmup
        return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))

    return factor


SCHEDULES: dict[str, Callable[[float], Schedule]] = {"constant": constant, "cosine": cosine}


def local_tables(*modules: nn.Module) -> list[LocalTable]:
    """The per-datum tables in modules."""
    return [
        part for module in modules for part in module.modules() if isinstance(part, LocalTable)
    ]


class RowAdam(torch.optim.Optimizer):
    """Adam on the rows of per-datum tables, each row with moments and a step count of its own.

    A minibatch touches its own rows only: those with a gradient. The second moment forgets faster
    than usual, because a row's first gradients are by far its largest.

    Args:
        tables: the tables whose rows are optimised.
        lr: learning rate.
        betas: decay rates of the two moments.
        eps: added to the denominator.

    References:
        Kingma & Ba (2015), row by row.
    """

    def __init__(
        self,
        tables: Iterable[LocalTable],
        lr: float = 0.1,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
    ) -> None:
        rows = [table.rows for table in tables]
        super().__init__(rows, {"lr": lr, "betas": betas, "eps": eps})
        for parameter in rows:
            self.state[parameter] = {
                "step": torch.zeros(len(parameter), 1, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: nn.Parameter, group: dict) -> None:
        assert parameter.grad is not None
        gradient = parameter.grad.to_sparse(1).coalesce()
        touched, g = gradient.indices()[0], gradient.values()
        state, (beta1, beta2) = self.state[parameter], group["betas"]
        t = state["step"][touched] + 1
        m = state["exp_avg"][touched].lerp(g, 1 - beta1)
        v = state["exp_avg_sq"][touched].lerp(g * g, 1 - beta2)
        state["step"][touched], state["exp_avg"][touched], state["exp_avg_sq"][touched] = t, m, v
        denominator = (v / (1 - beta2**t)).sqrt() + group["eps"]
        parameter[touched] -= group["lr"] * (m / (1 - beta1**t)) / denominator
