"""Stochastic variational inference: one step of any model, guide and objective."""

from typing import Any

import pyro.infer
import torch
from torch import Tensor, nn

from experiments.inference.objectives import Elbo, Objective
from experiments.inference.optim import RowAdam, local_tables
from ppl_models.program import Batch

__all__ = ["SVI", "Pair", "adam", "global_parameters"]


class Pair(nn.Module):
    """A model and a guide, held once: what is moved, copied, saved and switched to evaluation."""

    def __init__(self, model: nn.Module, guide: nn.Module) -> None:
        super().__init__()
        self.model, self.guide = model, guide

    @property
    def number_of_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())


def global_parameters(*modules: nn.Module) -> list[nn.Parameter]:
    """Trainable parameters that are not rows of per-datum tables."""
    rows = {id(table.rows) for table in local_tables(*modules)}
    parameters = {id(p): p for module in modules for p in module.parameters() if p.requires_grad}
    return [p for key, p in parameters.items() if key not in rows]


def adam(model: nn.Module, guide: nn.Module, lr: float = 0.01) -> torch.optim.Optimizer | None:
    """Adam over the global parameters of a pair, or ``None`` where there are none."""
    parameters = global_parameters(model, guide)
    return torch.optim.Adam(parameters, lr=lr, fused=True) if parameters else None


class SVI(pyro.infer.SVI):
    """Pyro's SVI with parameters in modules and a ``torch.optim`` optimiser.

    Rows of per-datum guides have an optimiser of their own, ``RowAdam`` at ``guide.local_lr``.

    Args:
        model: p(x, z).
        guide: q(z | x).
        optim: any ``torch.optim`` optimiser; Adam at rate 0.01 by default.
        loss: an objective with ``differentiable_loss``; the ELBO by default.

    Attributes:
        trains: whether the pair has anything to train.
    """

    def __init__(
        self,
        model: nn.Module,
        guide: nn.Module,
        optim: torch.optim.Optimizer | None = None,
        loss: Objective | None = None,
    ) -> None:
        # Pyro's initialiser insists on a PyroOptim; everything else it does is here.
        self.model, self.guide = model, guide
        self.objective = Elbo() if loss is None else loss
        self.loss = self.objective.loss
        self.loss_and_grads = self.objective.loss_and_grads
        self.optim = adam(model, guide) if optim is None else optim
        tables = [table for table in local_tables(guide) if table.rows.requires_grad]
        self.local_optim = RowAdam(tables, lr=guide.local_lr) if tables else None
        self.optimizers: list[torch.optim.Optimizer] = [
            optimizer for optimizer in (self.optim, self.local_optim) if optimizer is not None
        ]

    @property
    def trains(self) -> bool:
        return bool(self.optimizers)

    def step(self, batch: Batch) -> Tensor:  # type: ignore[override]
        """One gradient step; the loss before it, a detached tensor [nats per data point]."""
        loss = self.objective.differentiable_loss(self.model, self.guide, batch) / batch.size
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    @torch.no_grad()
    def evaluate_loss(self, batch: Batch) -> Tensor:  # type: ignore[override]
        """The loss on a batch, a tensor [nats per data point]."""
        return self.objective.differentiable_loss(self.model, self.guide, batch) / batch.size

    def state_dict(self) -> dict[str, Any]:
        return {"optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
