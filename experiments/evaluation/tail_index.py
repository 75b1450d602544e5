"""The tail index of a Gaussian guide's importance weights, estimated from draws in the tail.

Under q, z = m + L u with u ~ N(0, I), and log w is close to a quadratic c + b⊤u + u⊤A u / 2. For a
quadratic, E_q[w^s] is finite if s A < I, so the tail index is the largest eigenvalue of A. If many
eigenvalues are nearly as large, draws from q do not reach the tail, and k-hat is too large. But
these draws suffice to estimate A. Draws from q exp(theta u⊤A u / 2), which is Gaussian too, reach
the tail; weighted by the ratio of densities they give tail probabilities under q, of log w itself,
whether or not it is quadratic.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyro
import torch
from pyro import poutine
from pyro.poutine.util import prune_subsample_sites
from scipy.sparse.linalg import LinearOperator, lsmr
from torch import Tensor, nn

from experiments.data import Data
from experiments.errors import UsageError
from experiments.evaluation.oracle import as_multivariate_normal
from experiments.evaluation.shared_draws import images_in_cache
from experiments.inference.checks.masks import mask_of
from experiments.inference.density import density
from experiments.inference.frozen import evaluated
from ppl_models.batch import Batch

DEPTH = 10.0
"""Standard deviations of q to which its widest direction is widened."""

FLAT = 0.1
"""Lower limit on the largest eigenvalue used for widening."""

PER_NUMBER = 4
"""Minimum number of draws from q per coefficient of the quadratic."""

LEAST = 100
"""Minimum number of draws with larger weights than all draws from q; otherwise there is no
tail."""


class Tail(NamedTuple):
    """Estimates for every datum, ``[N]`` each.

    ``tail_index``: of the tail that the draws reached, 0 if there is none; ``effective``:
        effective number of draws at its far end; ``eigenvalue``: the largest of the quadratic;
        ``r2``: the share of the variance of log w under q that the quadratic explains, 1 if there
        is no variance.
    """

    tail_index: Tensor
    effective: Tensor
    eigenvalue: Tensor
    r2: Tensor


@evaluated
@torch.no_grad()
def far_tail(
    model: nn.Module, guide: nn.Module, data: Data, draws: int = 100_000, images: int | None = None
) -> Tail:
    """The tail index of every datum's weights p(x, z) / q(z | x), for q Gaussian.

    Args:
        model: p.
        guide: q, for these data.
        data: fixed pixels.
        draws: draws per datum; half from q, half in the tail.
        images: number of data to use, from the first; by default all.

    Raises:
        UsageError: If q is not Gaussian, the draws are too few for the quadratic, or a weight is
            not finite.

    References:
        Bucklew (2004), exponential tilting; the tail of a Gaussian quadratic form is that of its
        largest eigenvalue, Zolotarev (1961).
    """
    found = []
    at_once = max(1, images_in_cache(model, data) // 8)
    with pyro.validation_enabled(False):
        for batch in itertools.islice(data.batches(1), images):
            site, loc, L = gaussian_of(guide, batch)
            log_w = weights_in(site, loc, L, model, batch, at_once)
            found.append(tail_of(log_w, len(loc), draws, torch.finfo(data.dtype).eps))
    return Tail(*torch.tensor(found, dtype=torch.float64).mT)


def gaussian_of(guide: nn.Module, batch: Batch) -> tuple[str, Tensor, Tensor]:
    """The latent's name; mean ``[M]`` and Cholesky factor ``[M, M]`` of q for one row, in float64.

    Raises:
        UsageError: If q is not one Gaussian vector, or masked.
    """
    trace = prune_subsample_sites(poutine.trace(guide).get_trace(batch))
    latents = {name: site["fn"] for name, site in trace.iter_stochastic_nodes()}
    name, q = latents.popitem()
    if mask_of(trace.nodes[name]) is not True:
        raise UsageError(f"the tail index by tilting is not for '{name}', which has a mask.")
    normal = None if latents or len(q.event_shape) != 1 else as_multivariate_normal(q)
    if normal is None:
        raise UsageError(
            f"{type(guide).__name__} is not one Gaussian vector per datum: the tail index by "
            "tilting is for those (amortized, mean_field, full_rank, exact, prior with one vector "
            "latent)."
        )
    return name, normal.mean[0].double().cpu(), normal.scale_tril[0].double().cpu()


def weights_in(
    site: str, loc: Tensor, L: Tensor, model: nn.Module, batch: Batch, at_once: int
) -> Callable[[Tensor], Tensor]:
    """log w as a function of the noise u ``[K, M]``, ``[K]`` [nats]."""
    like = next(iter(batch.x.values())) if isinstance(batch.x, dict) else batch.only
    volume = L.diagonal().log().sum() + len(loc) / 2 * math.log(2 * math.pi)

    def log_w(u: Tensor) -> Tensor:
        parts = []
        for part in u.split(at_once):
            z = (loc + part @ L.mT).to(like)
            log_p = density(model, batch.repeated(len(z)))({site: z})
            parts.append(log_p.double().cpu() + part.square().sum(1) / 2 + volume)
        found = torch.cat(parts)
        if not found.isfinite().all():
            raise UsageError(f"datum {int(batch.index)} has a weight that is not finite.")
        return found

    return log_w


def tail_of(
    log_w: Callable[[Tensor], Tensor], M: int, draws: int, eps: float
) -> tuple[float, float, float, float]:
    """The estimates of ``Tail`` for one datum.

    Args:
        log_w: function of the noise ``[K, M]``, with values ``[K]`` [nats].
        M: dimension of the latent.
        draws: number of draws, from q and in the tail together.
        eps: machine precision of log w.

    Raises:
        UsageError: If there are too few draws, or a weight is not finite.
    """
    least = 2 * PER_NUMBER * (1 + M + M * (M + 1) // 2)
    if draws < least:
        raise UsageError(f"{draws} draws are too few for {M} latents: at least {least}.")
    u = torch.randn(draws // 2, M, dtype=torch.float64)
    near = log_w(u)
    low, high = near.aminmax()
    rounding = 100 * eps * torch.maximum(low.abs(), high.abs())
    if high - low <= rounding:
        return 0.0, 0.0, 0.0, 1.0
    A, r2 = fitted(u, near)
    eigenvalue = torch.linalg.eigvalsh(A)[-1].item()
    y = torch.randn(draws - len(u), M, dtype=torch.float64)
    u = y @ towards_tail(A).mT
    log_ratio = (y.square() - u.square()).sum(1) / 2
    tail_index, effective = slope(log_w(u), log_ratio, (high + rounding).item())
    return tail_index, effective, eigenvalue, r2


def fitted(u: Tensor, log_w: Tensor) -> tuple[Tensor, float]:
    """The matrix A ``[M, M]`` fitted to log_w at standard normal u ``[K, M]``, and R^2.

    Least squares that never form the products u_i u_j.
    """
    (K, M), U, target = u.shape, u.numpy(), (log_w - log_w.mean()).numpy()

    def values(w: np.ndarray) -> np.ndarray:
        A = w[1 + M :].reshape(M, M)
        return w[0] + U @ w[1 : 1 + M] + ((U @ A * U).sum(1) - A.trace()) / 2

    def adjoint(r: np.ndarray) -> np.ndarray:
        of_A = (U.T @ (r[:, None] * U) - r.sum() * np.eye(M)) / 2
        return np.concatenate([[r.sum()], U.T @ r, of_A.ravel()])

    features: Any = LinearOperator((K, 1 + M + M * M), values, adjoint, dtype=float)
    w = lsmr(features, target, atol=1e-10, btol=1e-10)[0]
    left = np.square(target - values(w)).sum() / (K - 1 - M - M * (M + 1) // 2)
    A = torch.from_numpy(w[1 + M :]).reshape(M, M)
    return A, float(1 - left / target.var(ddof=1))


def towards_tail(A: Tensor) -> Tensor:
    """A factor ``[M, M]`` of the covariance of q exp(theta u⊤A u / 2), with mean zero.

    theta makes the largest standard deviation ``DEPTH``. Tilting by b⊤u as well would move all
    draws to one side, where the heavier tail need not be.
    """
    values, vectors = torch.linalg.eigh(A)
    values = values + max(0.0, FLAT - values[-1].item())
    theta = (1 - DEPTH**-2) / values[-1]
    return vectors * (1 - theta * values).rsqrt()


def slope(log_w: Tensor, log_ratio: Tensor, top: float) -> tuple[float, float]:
    """The tail index -dt / d log P(log w > t) between two heights t, and the effective draws.

    The heights are quartiles of the draws above all of q's. A difference of logarithms tolerates
    errors of a few per cent in the probabilities, while a fit to the excesses (Hill, Pareto) would
    depend on very few draws.

    Args:
        log_w: log weights of draws, ``[K]`` [nats].
        log_ratio: log q over their density, up to a constant, ``[K]``.
        top: the largest log w of q's own draws.
    """
    far = log_w > top
    if far.sum() < LEAST:
        return 0.0, 0.0
    lower, upper = log_w[far].quantile(log_w.new_tensor([0.25, 0.75]))
    beyond = [log_ratio[log_w >= height] for height in (lower, upper)]
    log_p = [ratios.logsumexp(0) for ratios in beyond]
    effective = 1 / beyond[1].softmax(0).square().sum()
    return ((upper - lower) / (log_p[0] - log_p[1])).item(), effective.item()
