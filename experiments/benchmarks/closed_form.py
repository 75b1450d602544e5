"""PPCA's closed form beside scikit-learn's PCA and FactorAnalysis, at equal precision."""

from functools import partial
from typing import Any

import torch
from sklearn.decomposition import PCA, FactorAnalysis
from torch import Tensor

from experiments.benchmarks.timing import in_turns
from ppl_models import PPCA


def measure_closed_form(x: Tensor, latent_dim: int, rounds: int) -> list[dict[str, Any]]:
    """Times of a fit to all rows ``[N, D]``, and the mean log-likelihood it reaches [nats]."""
    x = x.cpu()  # where scikit-learn computes
    rows = []
    for dtype in (torch.float64, torch.float32):
        data = x.to(dtype)
        array, options = data.numpy(), {"n_components": latent_dim}
        pca = PCA(**options, svd_solver="covariance_eigh")
        factors = FactorAnalysis(**options, svd_method="randomized")
        fit = partial(PPCA.maximum_likelihood, data, latent_dim)
        times = in_turns(
            {"scikit-learn PCA, covariance_eigh": partial(pca.fit, array), "ppl-models PPCA": fit},
            rounds,
            warmup=1,
        )
        # FactorAnalysis takes many seconds: a sixth of the rounds, after those of the others
        times |= in_turns(
            {"scikit-learn FactorAnalysis": partial(factors.fit, array)}, -(-rounds // 6), warmup=1
        )
        ours = fit().double().marginal().log_prob(x.double()).mean().item()
        reached = [float(pca.score(array)), ours, float(factors.score(array))]
        reference = next(iter(times.values())).median
        rows += [
            {
                "fit": f"{name}, M = {latent_dim}",
                "dtype": str(dtype).removeprefix("torch."),
                **timing.row(reference),
                "log p(x)": log_p,
            }
            for (name, timing), log_p in zip(times.items(), reached, strict=True)
        ]
    return rows
