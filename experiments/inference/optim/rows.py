"""Adam for the rows of per-datum tables."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from experiments.inference.optim.light import Light
from guides.local import LocalTable


def local_tables(*modules: nn.Module) -> list[LocalTable]:
    """The per-datum tables in modules."""
    return [
        part for module in modules for part in module.modules() if isinstance(part, LocalTable)
    ]


class RowAdam(Light, torch.optim.Optimizer):
    """Adam on the rows of per-datum tables, with moments and a step count per row.

    A minibatch updates only its rows. The second moment decays faster than usual, because the
    first gradients of a row are by far the largest.

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

    def load_state_dict(self, state_dict: Any) -> None:
        super().load_state_dict(state_dict)
        for parameter, state in self.state.items():
            # torch leaves counts where they are
            state["step"] = state["step"].to(parameter.device)

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
