"""What the cost and the posterior of probabilistic PCA are made of."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ppl_models import PPCA


def model(W: Tensor, mu: Tensor, log_variance: Tensor) -> PPCA:
    """The project's PPCA at these tensors, which keep their gradients."""
    with torch.random.fork_rng(devices=[]):
        ppca = PPCA(*W.shape)
    for name, value in (("W", W), ("mu", mu), ("log_sigma", log_variance / 2)):
        delattr(ppca, name)
        setattr(ppca, name, value)
    return ppca


def right(x: Tensor, W: Tensor, mu: Tensor, s: Tensor) -> Tensor:
    return -2 * model(W, mu, s).marginal().log_prob(x).mean() - constant(mu)


def constant(mu: Tensor) -> float:
    return len(mu) * math.log(2 * math.pi)


def matrix(W: Tensor, variance: Tensor | float) -> Tensor:
    """W⊤W + sigma^2 I, ``[M, M]``."""
    return W.mT @ W + variance * torch.eye(W.shape[1], dtype=W.dtype)


def idle(W: Tensor) -> int:
    """How many dimensions W does not reach."""
    return W.shape[0] - W.shape[1]


def log_det(x: Tensor, W: Tensor, mu: Tensor, s: Tensor) -> Tensor:
    return matrix(W, s.exp()).logdet() + idle(W) * s


def whole(x: Tensor, W: Tensor, mu: Tensor, s: Tensor) -> Tensor:
    """The squared length of x - mu, averaged over images."""
    return (x - mu).square().sum(1).mean()


def explained(
    x: Tensor,
    W: Tensor,
    mu: Tensor,
    s: Tensor,
    *,
    M: Callable[[Tensor], Tensor] = torch.linalg.inv,
) -> Tensor:
    """The part of it that W reaches, averaged over images."""
    d = (x - mu) @ W
    return ((d @ M(matrix(W, s.exp()))) * d).sum(1).mean()


def quadratic(*a: Tensor) -> Tensor:
    return (whole(*a) - explained(*a)) / a[3].exp()


def dense(x: Tensor, W: Tensor, mu: Tensor, variance: Tensor) -> Tensor:
    C = W @ W.mT + variance * torch.eye(len(W), dtype=W.dtype)
    d = x - mu
    return C.logdet() + (d @ torch.linalg.inv(C) * d).sum(1).mean()
