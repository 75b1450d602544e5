"""What is known exactly about PPCA: the truth that estimators are tried on."""

from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn
from torch.distributions import kl_divergence

from experiments.data import Data
from ppl_models.ppca import PPCA, equal_diagonal_rotation

__all__ = ["diagonal_gap", "gap_in_closed_form", "rotate_to_largest_gap"]


def diagonal_gap(model: PPCA) -> Tensor:
    """Gap of the best diagonal-Gaussian guide [nats per data point], the same for every datum.

    1/2 (sum_k log Lambda_kk - log det Lambda), Lambda the precision of the posterior; zero when
    the columns of W are orthogonal.
    """
    with torch.no_grad():
        precision = model.posterior_precision()
        return 0.5 * (precision.diagonal().log().sum() - torch.logdet(precision))


def rotate_to_largest_gap(model: PPCA) -> PPCA:
    """The same p(x) in the latent basis where all Lambda_kk are equal and the gap is largest."""
    with torch.no_grad():
        rotated = model.rotated(equal_diagonal_rotation(model.posterior_precision()))
    return rotated.requires_grad_(model.W.requires_grad)


@torch.no_grad()
def gap_in_closed_form(model: Any, guide: nn.Module, data: Data) -> Tensor | None:
    """KL(q(z | x) || p(z | x)) of every image, ``[N]`` [nats]: the gap without any draw.

    ``None`` where the model has no posterior or q is not Gaussian.
    """
    if not hasattr(model, "posterior"):
        return None
    gaps = []
    for batch in data.fixed().like(model).batches(500):
        q = poutine.trace(guide).get_trace(batch).nodes["z"]["fn"]
        if isinstance(getattr(q, "base_dist", None), dist.Normal):
            q = dist.MultivariateNormal(q.mean, scale_tril=torch.diag_embed(q.stddev))
        if not isinstance(q, dist.MultivariateNormal):
            return None
        gaps.append(kl_divergence(q, model.posterior(batch.x)))
    return torch.cat(gaps)
