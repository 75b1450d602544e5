"""PPCA's closed form beside scikit-learn's PCA and FactorAnalysis, at equal precision."""

from collections.abc import Callable
from typing import Any

import torch
from sklearn.decomposition import PCA, FactorAnalysis
from torch import Tensor

from experiments.speed.timing import in_turns
from ppl_models import PPCA

__all__ = ["measure_closed_form"]


def measure_closed_form(x: Tensor, latent_dim: int, rounds: int) -> list[dict[str, Any]]:
    """Times of a fit to all rows ``[N, D]``, and the mean log-likelihood it reaches [nats].

    Args:
        x: the data.
        latent_dim: M.
        rounds: visits of every way.
    """
    rows = []
    for dtype in (torch.float64, torch.float32):
        data = x.cpu().to(dtype)
        array, options = data.numpy(), {"n_components": latent_dim}
        sklearn = {
            "scikit-learn PCA, covariance_eigh": PCA(**options, svd_solver="covariance_eigh"),
            "scikit-learn FactorAnalysis": FactorAnalysis(**options, svd_method="randomized"),
        }
        ways: dict[str, Callable[[], Any]] = {
            name: lambda estimator=estimator, array=array: estimator.fit(array)  # type: ignore[misc]
            for name, estimator in sklearn.items()
        }
        ways["ppl-models PPCA"] = lambda data=data: PPCA.maximum_likelihood(data, latent_dim)  # type: ignore[misc]
        times = in_turns(ways, rounds, warmup=1)
        ours = ways["ppl-models PPCA"]().double().marginal().log_prob(x.double()).mean().item()
        reached = {name: float(estimator.score(array)) for name, estimator in sklearn.items()}
        reference = next(iter(times.values())).median
        rows += [{"fit": f"{name}, M = {latent_dim}", "dtype": str(dtype).removeprefix("torch."),
                  **timing.row(reference), "log p(x)": reached.get(name, ours)}
                 for name, timing in times.items()]  # fmt: skip
    return rows
