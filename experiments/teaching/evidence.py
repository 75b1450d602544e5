"""Checks of probabilistic PCA's cost and posterior (lab 2)."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from experiments.teaching.checking import Mistake, Task, recorded
from experiments.teaching.examining import examine
from ppl_models import PPCA

__all__ = ["posterior", "ppca_cost"]

Answer = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def _model(W: Tensor, mu: Tensor, log_variance: Tensor) -> PPCA:
    """The project's PPCA at these tensors, which keep their gradients."""
    with torch.random.fork_rng(devices=[]):
        model = PPCA(*W.shape)
    for name, value in (("W", W), ("mu", mu), ("log_sigma", log_variance / 2)):
        delattr(model, name)
        setattr(model, name, value)
    return model


def _case() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows = int(torch.randint(6, 10, ()))
    return torch.randn(rows, 5), torch.randn(5, 2), torch.randn(5), -0.5 - torch.rand(())


def _right_cost(x: Tensor, W: Tensor, mu: Tensor, log_variance: Tensor) -> Tensor:
    log_evidence = _model(W, mu, log_variance).marginal().log_prob(x).mean()
    return -2 * log_evidence - _constant(mu)


def _constant(mu: Tensor) -> float:
    return len(mu) * math.log(2 * math.pi)


def _M(W: Tensor, variance: Tensor) -> Tensor:
    return W.mT @ W + variance * torch.eye(W.shape[1], dtype=W.dtype)


def _logdet(x: Tensor, W: Tensor, mu: Tensor, log_variance: Tensor) -> Tensor:
    D, K = W.shape
    return _M(W, log_variance.exp()).logdet() + (D - K) * log_variance


def _quadratic(
    x: Tensor,
    W: Tensor,
    mu: Tensor,
    log_variance: Tensor,
    sign: float = -1.0,
    powers: tuple[int, int] = (1, 1),
    M: Callable[[Tensor], Tensor] = torch.linalg.inv,
) -> Tensor:
    """The mean of d'd / sigma^2 - d'W M^-1 W'd / sigma^2, or what a mistake makes of it."""
    d, variance = x - mu, log_variance.exp()
    whole, explained = d.square().sum(1), ((d @ W @ M(_M(W, variance))) * (d @ W)).sum(1)
    return (whole / variance ** powers[0] + sign * explained / variance ** powers[1]).mean()


def _at(change: Callable[[Tensor], Tensor]) -> Answer:
    """The cost with another function of log sigma^2 in the place of log sigma^2."""
    return lambda x, W, mu, s: _right_cost(x, W, mu, change(s))


def _dense(x: Tensor, W: Tensor, mu: Tensor, variance: Tensor) -> Tensor:
    C = W @ W.mT + variance * torch.eye(len(W), dtype=W.dtype)
    d = x - mu
    return C.logdet() + (d @ torch.linalg.inv(C) * d).sum(1).mean()


COST_MISTAKES: list[tuple[Answer, str]] = [
    (
        lambda *a: _right_cost(*a) / 2,
        "the 1/2 belongs to -log p(x); the cost is twice that, without the constant.",
    ),
    (lambda *a: -_right_cost(*a), "its sign is wrong: a cost is minimised."),
    (
        lambda *a: _right_cost(*a) + _constant(a[2]),
        "the constant D log 2 pi is in it: harmless for training, but not part of this cost.",
    ),
    (
        lambda *a: (_right_cost(*a) + _constant(a[2])) / 2,
        "this is -log p(x) itself: the cost is twice that, without the constant D log 2 pi.",
    ),
    (
        lambda *a: _logdet(*a) + _quadratic(*a) * len(a[0]),
        "the quadratic form is summed over the images: its mean stands beside log |C|.",
    ),
    (lambda *a: _right_cost(*a) * len(a[0]), "it is summed over the images: average them."),
    (lambda *a: _quadratic(*a), "log |C| is missing: without it sigma grows without limit."),
    (lambda *a: _logdet(*a), "the quadratic form is missing: no image enters the cost."),
    (lambda *a: _logdet(*a) - _quadratic(*a), "the sign of the quadratic form is wrong."),
    (lambda *a: _quadratic(*a) - _logdet(*a), "the sign of log |C| is wrong."),
    (
        lambda *a: _logdet(*a) - (len(a[1]) - a[1].shape[1]) * a[3] + _quadratic(*a),
        "log |M| stands for log |C|: the determinant lemma has a power of sigma^2 besides.",
    ),
    (
        lambda *a: _logdet(*a) + a[1].shape[1] * a[3] + _quadratic(*a),
        "the power of sigma^2 in the determinant is wrong: how many dimensions does W not reach?",
    ),
    (
        lambda *a: _logdet(*a) - (len(a[1]) - a[1].shape[1]) * a[3] / 2 + _quadratic(*a),
        "log sigma stands where log sigma^2 belongs (in the determinant).",
    ),
    (
        lambda x, W, mu, s: _dense(x, W, mu, s),
        "the logarithm of sigma^2 is used as sigma^2: take its exponential.",
    ),
    (_at(lambda s: s / 2), "sigma stands for sigma^2: the standard deviation for the variance."),
    (_at(lambda s: 2 * s), "sigma^4 stands for sigma^2: the parameter is log sigma^2 already."),
    (
        lambda x, W, mu, s: _right_cost(x, W, torch.zeros_like(mu), s),
        "x is not centred: mu has to be subtracted.",
    ),
    (
        lambda x, W, mu, s: _right_cost(x, W, x.mean(0), s),
        "x is centred with the batch's mean: the parameter is mu.",
    ),
    (
        lambda *a: _logdet(*a) + _quadratic(a[0], a[1], a[2], a[3], sign=1.0),
        "Woodbury subtracts its second term.",
    ),
    (
        lambda *a: _logdet(*a) + _quadratic(a[0], a[1], a[2], a[3], powers=(1, 0)),
        "in Woodbury's second term a factor is missing: which power of sigma^2 has C^-1?",
    ),
    (
        lambda *a: _logdet(*a) + _quadratic(a[0], a[1], a[2], a[3], powers=(1, 2)),
        "in Woodbury's second term sigma^2 divides once too often.",
    ),
    (
        lambda *a: _logdet(*a) + _quadratic(a[0], a[1], a[2], a[3], powers=(0, 0)),
        "sigma^2 does not divide.",
    ),
    (
        lambda *a: _logdet(*a) + _quadratic(a[0], a[1], a[2], a[3], M=lambda M: M),
        "M stands where its inverse belongs.",
    ),
    (
        lambda *a: _logdet(*a) + _quadratic(*a) / len(a[2]),
        "the quadratic form is averaged over pixels: it is a sum over them.",
    ),
]


@recorded
def ppca_cost(answer: Answer) -> None:
    """Check ``answer(x, W, mu, log_variance)``: ``log |C| + mean (x - mu)' C^-1 (x - mu)``.

    Right is -2 log p(x) - D log 2 pi with the closed form of the project's ``PPCA``.
    """
    mistakes = [Mistake(*pair) for pair in COST_MISTAKES]
    examine(
        Task("ppca_cost", [_right_cost], _case, mistakes, (1, 2, 3), shape="a single number"),
        answer,
    )


Two = tuple[Tensor, Tensor]


def _right_posterior(x: Tensor, W: Tensor, mu: Tensor, log_variance: Tensor) -> Two:
    right = _model(W, mu, log_variance).posterior(x)
    return right.mean, right.covariance_matrix[0]  # the same for every image


def _given(
    x: Tensor,
    W: Tensor,
    mu: Tensor,
    variance: Tensor,
    M: Callable[[Tensor, Tensor], Tensor] = _M,
) -> Two:
    inverse = torch.linalg.inv(M(W, variance))
    return (x - mu) @ W @ inverse, variance * inverse


POSTERIOR_MISTAKES: list[tuple[Callable[[Tensor, Tensor, Tensor, Tensor], Two], str]] = [
    (
        lambda x, W, mu, s: (x @ W @ torch.linalg.inv(_M(W, s.exp())), _M(W, s.exp()) * s.exp()),
        "a factor is not inverted, or x is not centred: the covariance contains the inverse of M, "
        "and the mean is that of x - mu.",
    ),
    (
        lambda x, W, mu, s: (_right_posterior(x, W, mu, s)[0] / s.exp(), _M(W, s.exp()) / s.exp()),
        "sigma^2 stands in the wrong place: the covariance must not be the precision, and with M "
        "written as here no sigma^2 is left in the mean.",
    ),
    (
        lambda x, W, mu, s: (_right_posterior(x, W, mu, s)[0], torch.linalg.inv(_M(W, s.exp()))),
        "sigma^2 is missing in the covariance: as sigma goes to 0 it must become zero.",
    ),
    (
        lambda x, W, mu, s: (
            _right_posterior(x, W, mu, s)[0],
            torch.linalg.inv(_M(W, s.exp())) / s.exp(),
        ),
        "sigma^2 divides the covariance: as sigma goes to 0 it must become zero.",
    ),
    (
        lambda x, W, mu, s: _given(x, W, mu, s.exp(), lambda W, v: W.mT @ W),
        "M is W'W alone: the prior's part, sigma^2 I, is missing.",
    ),
    (
        lambda x, W, mu, s: _given(x, W, mu, s.exp(), lambda W, v: _M(W, torch.ones_like(v))),
        "M has I where it should have sigma^2 I.",
    ),
    (
        lambda x, W, mu, s: _given(x, W, mu, (s / 2).exp()),
        "sigma stands for sigma^2: the standard deviation for the variance.",
    ),
    (
        lambda x, W, mu, s: _given(x, W, mu, s),
        "the logarithm of sigma^2 is used as sigma^2: take its exponential.",
    ),
    (
        lambda x, W, mu, s: (
            _right_posterior(x, W, mu, s)[0].mT,
            _right_posterior(x, W, mu, s)[1],
        ),
        "the mean is transposed: one row per image, [B, M].",
    ),
    (
        lambda x, W, mu, s: (
            _right_posterior(x, W, mu, s)[0],
            _right_posterior(x, W, mu, s)[1].diagonal(),
        ),
        "only the diagonal of the covariance is returned: its entries off it are not zero.",
    ),
]


@recorded
def posterior(answer: Callable[[Tensor, Tensor, Tensor, Tensor], Two]) -> None:
    """Check ``answer(x, W, mu, log_variance)``: the mean ``[B, M]``, the covariance ``[M, M]``."""
    mistakes = [Mistake(*pair) for pair in POSTERIOR_MISTAKES]
    examine(
        Task(
            "posterior",
            [_right_posterior],
            _case,
            mistakes,
            (1, 2, 3),
            parts=("the mean", "the covariance"),
            shape="M is the latent dimension",
        ),
        answer,
    )
