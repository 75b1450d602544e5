"""Do data that the fitted model makes look like the data? Posterior predictive checks."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["STATISTICS", "tail_areas"]


def _largest_eigenvalue(x: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(x - x.mean(0), 2).square() / len(x)


STATISTICS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": torch.mean,
    "standard deviation": torch.std,
    "standard deviation of a datum's mean": lambda x: x.mean(1).std(),
    "largest value": torch.max,
    "largest eigenvalue of the covariance": _largest_eigenvalue,
}
"""Of a data set ``[N, D]``."""


def tail_areas(x: Tensor, replicated: Tensor) -> list[dict[str, Any]]:
    """Where each statistic of the data lies among those of data sets that the model made.

    Args:
        x: ``[N, D]``.
        replicated: ``[S, N, D]``.

    Returns:
        One row per statistic; its tail area is the share of replicated sets at or above the data:
        near 0 or 1 the model does not make such data.

    References:
        Gelman, Meng & Stern (1996).
    """
    rows = []
    for name, statistic in STATISTICS.items():
        observed = statistic(x)
        others = torch.stack([statistic(one) for one in replicated])
        rows.append({
            "statistic": name, "observed": observed.item(), "replicated": others.mean().item(),
            "sd": others.std().item(), "tail area": (others >= observed).double().mean().item(),
        })  # fmt: skip
    return rows
