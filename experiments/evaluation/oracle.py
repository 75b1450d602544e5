"""Exact results for PPCA, against which estimators are tested."""

import copy
from typing import Any, Literal

import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn
from torch.distributions import kl_divergence

from experiments.data import Data
from guides.amortized import Amortized
from ppl_models.coordinates import is_product, own_density
from ppl_models.ppca import PPCA
from ppl_models.program import closed_form
from ppl_models.sites import describe


def _in_float64(model: PPCA) -> PPCA:
    """A copy in float64: at small sigma, Lambda rounded to float32 can be singular."""
    return copy.deepcopy(model).double()


@torch.no_grad()
def diagonal_gap(model: PPCA) -> Tensor:
    """Gap of the best diagonal Gaussian guide [nats per data point], the same for every datum.

    1/2 (sum_k log Lambda_kk - log det Lambda), Lambda the precision of the posterior; zero when
    the columns of W are orthogonal.
    """
    precision = _in_float64(model).posterior_precision()
    gap = 0.5 * (precision.diagonal().log().sum() - torch.logdet(precision))
    return gap.to(model.W.dtype)


@torch.no_grad()
def tail_index(model: PPCA) -> float:
    """The tail index of the best diagonal guide's importance weights, the same for every datum.

    1 - lambda_min(D^-1/2 Lambda D^-1/2), Lambda the precision of the posterior, D its diagonal.
    """
    precision = _in_float64(model).posterior_precision()
    scale = precision.diagonal().rsqrt()
    return 1 - torch.linalg.eigvalsh(scale[:, None] * precision * scale).min().item()


@torch.no_grad()
def best_linear(model: PPCA, covariance: Literal["diagonal", "full"] = "diagonal") -> Amortized:
    """The best guide of a family: a linear encoder, set to the posterior's mean.

    The best diagonal covariance has the precision's diagonal; the best full one is the posterior.
    """
    guide = Amortized(model, encoder="linear", covariance=covariance)
    exact = _in_float64(model)
    precision = exact.posterior_precision()
    slopes = torch.linalg.solve(precision, exact.W.mT / exact.sigma.square())  # [M, D]
    constant = -slopes @ exact.mu
    if covariance == "full":
        L = dist.MultivariateNormal(constant, precision_matrix=precision).scale_tril
        scale = L.diagonal()
        row, column = torch.tril_indices(len(L), len(L), -1)
        below = (L / scale[:, None])[row, column] * len(L) ** 0.5
        spread = torch.cat([scale.log(), below])
    else:
        spread = -precision.diagonal().log()
    head = guide.encoder.head
    head.weight[: len(constant)] = slopes
    head.bias.copy_(torch.cat([constant, spread]))
    return guide


def equal_diagonal_rotation(symmetric: Tensor) -> Tensor:
    """An orthogonal R for which R⊤ A R has equal diagonal entries (Schur-Horn), ``[M, M]``.

    For a posterior precision A, this is the basis in which a diagonal guide loses most. Each
    plane rotation sets one more diagonal entry to the mean.
    """
    A = symmetric.clone()
    R = torch.eye(len(A), dtype=A.dtype, device=A.device)
    target = A.diagonal().mean()
    remaining = list(range(len(A)))
    while len(remaining) > 1:
        entries = A.diagonal()[remaining]
        low, high = remaining[int(entries.argmin())], remaining[int(entries.argmax())]
        if low == high:
            break
        a, b, d = A[low, low] - target, A[low, high], A[high, high] - target
        tangent = ((b * b - a * d).clamp(min=0).sqrt() - b) / d if d != 0 else torch.zeros_like(d)
        cosine = (1 + tangent * tangent).rsqrt()
        sine = tangent * cosine
        plane = torch.eye(len(A), dtype=A.dtype, device=A.device)
        plane[low, low], plane[high, high] = cosine, cosine
        plane[high, low], plane[low, high] = sine, -sine
        A, R = plane.mT @ A @ plane, R @ plane
        remaining.remove(low)
    return R


@torch.no_grad()
def rotate_to_largest_gap(model: PPCA) -> PPCA:
    """The same p(x) in the latent basis where all Lambda_kk are equal and the gap is largest."""
    rotation = equal_diagonal_rotation(_in_float64(model).posterior_precision())
    rotated = model.rotated(rotation.to(model.W.dtype))
    return rotated.requires_grad_(model.W.requires_grad)


def as_multivariate_normal(q: Any) -> Any:
    """A Gaussian vector with its covariance matrix; ``None`` for any other distribution."""
    if own_density(q):
        return None
    if is_product(q) and isinstance(q.base_dist, dist.Normal):
        return dist.MultivariateNormal(q.mean, scale_tril=torch.diag_embed(q.stddev))
    return q if isinstance(q, dist.MultivariateNormal) else None


@torch.no_grad()
def gap_in_closed_form(model: Any, guide: nn.Module, data: Data) -> Tensor | None:
    """KL(q(z | x) || p(z | x)) of every image, ``[N]`` [nats]: the gap without sampling.

    ``None`` if the model has no posterior, or one of the two is no Gaussian vector.
    """
    latents = describe(model).latents
    if not closed_form(model, "posterior") or len(latents) != 1:
        return None
    (name,), gaps = latents, []
    for batch in data.fixed().like(model).batches(500):
        q = poutine.trace(guide).get_trace(batch).nodes[name]["fn"]
        normal = as_multivariate_normal(q)
        if normal is None:
            return None
        try:
            gaps.append(kl_divergence(normal, model.posterior(batch.only)))
        except NotImplementedError:
            return None
    return torch.cat(gaps)
