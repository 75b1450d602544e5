"""Optimisers and learning-rate schedules."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from guides.local import LocalTable

__all__ = ["SCHEDULES", "Muon", "RowAdam", "constant", "cosine", "local_tables", "orthogonal"]

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


def orthogonal(G: Tensor, steps: int = 5) -> Tensor:
    """Nearly the orthogonal factor U V' of G = U S V', by Newton-Schulz iterations in float32.

    References:
        Jordan et al. (2024), Muon: the quintic iteration and its coefficients.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = G.shape[0] > G.shape[1]
    X = (G.mT if tall else G).float()
    X = X / X.norm().clamp(min=1e-7)
    for _ in range(steps):
        A = X @ X.mT
        X = torch.addmm(X, torch.addmm(A, A, A, beta=b, alpha=c), X, beta=a)
    return (X.mT if tall else X).to(G)


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised: a step has the same size in every direction of a weight matrix.

    ``torch.optim.Muon`` with its default scaling, but in float32: torch's own iterates in
    bfloat16, which takes thirty times as long on a processor without units for it.

    Args:
        params: matrices.
        lr: spectral norm of a step, for a matrix with no more rows than columns.
        momentum: Nesterov's.

    References:
        Jordan et al. (2024), Muon.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float = 0.01, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for W in group["params"]:
                if W.grad is None:
                    continue
                m = self.state[W].setdefault("momentum", torch.zeros_like(W))
                m.lerp_(W.grad, 1 - group["momentum"])
                update = orthogonal(W.grad.lerp(m, group["momentum"]))
                rows, columns = W.shape
                W.sub_(update, alpha=group["lr"] * max(1, rows / columns) ** 0.5)
