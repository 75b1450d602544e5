"""Checks of likelihoods, of the KL and of the reparametrisation (lab 3)."""

import math
from collections.abc import Callable

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from experiments.teaching.checking import Mistake, Task, recorded
from experiments.teaching.examining import examine
from ppl_models.normals import IsotropicNormal

__all__ = ["kl", "log_likelihood", "monte_carlo_likelihood", "reparametrise"]

Noisy = Callable[[Tensor, Tensor, Tensor], Tensor]


def _network() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 5)).requires_grad_(False)


def _likelihood_case() -> tuple[Tensor, Tensor, nn.Module, Tensor]:
    rows = int(torch.randint(6, 10, ()))
    return torch.randn(rows, 5), torch.randn(3, 2), _network(), -0.5 - torch.rand(())


def _log_p(x: Tensor, z: Tensor, decoder: nn.Module, log_variance: Tensor) -> Tensor:
    return IsotropicNormal(decoder(z).unsqueeze(1), (log_variance / 2).exp()).log_prob(x)


def _scaled(change: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """log p with another sigma."""
    return lambda x, z, f, s: dist.Normal(f(z).unsqueeze(1), change(s)).log_prob(x).sum(-1)


def _squares(x: Tensor, z: Tensor, decoder: nn.Module) -> Tensor:
    return (x - decoder(z).unsqueeze(1)).square().sum(-1)


HALF_LOG = 0.5 * math.log(2 * math.pi)
D = 5

LIKELIHOOD_MISTAKES: list[tuple[Callable[..., Tensor], str]] = [
    (lambda *a: _log_p(*a).mT, "the axes are exchanged: draws first, then images, [K, B]."),
    (lambda *a: _log_p(*a) + D * HALF_LOG, "the constant D/2 log 2 pi is missing."),
    (lambda *a: _log_p(*a) + (D - 1) * HALF_LOG, "log 2 pi counts once per pixel, not once."),
    (lambda *a: -_log_p(*a), "its sign is wrong: this is -log p(x | z)."),
    (
        lambda *a: _log_p(*a) / D,
        "it is averaged over pixels: pixels are independent given z, so "
        "their log-densities add up.",
    ),
    (
        lambda *a: _scaled(lambda s: s.exp())(*a),
        "the variance is used as standard deviation: dist.Normal takes sigma.",
    ),
    (
        lambda *a: _scaled(lambda s: (2 * s).exp())(*a),
        "sigma^4 is used as standard deviation: the parameter is log sigma^2.",
    ),
    (
        lambda x, z, f, s: _log_p(x, z, f, s / 2),
        "sigma is used as variance: the parameter is log sigma^2.",
    ),
    (
        lambda x, z, f, s: -D * (HALF_LOG + s / 2) - 0.5 * _squares(x, z, f) / s,
        "the log variance is used as variance: take its exponential.",
    ),
    (
        lambda x, z, f, s: -D * (HALF_LOG + s / 2) - _squares(x, z, f) / s.exp(),
        "the 1/2 of the squared distance is missing.",
    ),
    (
        lambda x, z, f, s: -D * (HALF_LOG + s) - 0.5 * _squares(x, z, f) / s.exp(),
        "the 1/2 of log sigma^2 is missing.",
    ),
    (
        lambda x, z, f, s: -D * HALF_LOG - s / 2 - 0.5 * _squares(x, z, f) / s.exp(),
        "log sigma counts once per pixel, not once.",
    ),
    (
        lambda x, z, f, s: -D * HALF_LOG - 0.5 * _squares(x, z, f) / s.exp(),
        "log sigma is missing: without it sigma grows without limit.",
    ),
    (
        lambda x, z, f, s: dist.Normal(f(z).unsqueeze(1), (s / 2).exp()).log_prob(x),
        "pixels are not summed: one number per draw and image.",
    ),
    (lambda x, z, f, s: -_squares(x, z, f), "this is the squared distance, not a log-density."),
]


@recorded
def log_likelihood(answer: Callable[[Tensor, Tensor, nn.Module, Tensor], Tensor]) -> None:
    """Check ``answer(x, z, decoder, log_variance)``: log p(x_n | z_k), ``[K, B]`` [nats]."""
    mistakes = [Mistake(*pair) for pair in LIKELIHOOD_MISTAKES]
    examine(
        Task(
            "log_likelihood",
            [_log_p],
            _likelihood_case,
            mistakes,
            (1, 3),
            shape="draws, then images",
        ),
        answer,
    )


def _log_mean(log_p: Tensor) -> Tensor:
    return log_p.logsumexp(0) - math.log(len(log_p))


def _naive_mean(log_p: Tensor) -> Tensor:
    return log_p.exp().mean(0).log()


def _monte_carlo_likelihood_case() -> tuple[Tensor]:
    return (3 * torch.randn(int(torch.randint(3, 7, ())), 8) - 2000,)


MONTE_CARLO = Task(
    "monte_carlo_likelihood",
    [_log_mean],
    _monte_carlo_likelihood_case,
    [
        Mistake(
            _naive_mean,
            "exp underflows: log p(x | z) of an image is hundreds or thousands of nats "
            "below zero. Take the largest out first, as torch.logsumexp does.",
        ),
        Mistake(lambda p: p.logsumexp(0), "log K is forgotten: the sum over draws is no mean."),
        Mistake(lambda p: p.logsumexp(0) + math.log(len(p)), "log K has the wrong sign."),
        Mistake(
            lambda p: p.logsumexp(0) / len(p),
            "the mean is taken outside of the logarithm: "
            "1/K inside it becomes something else outside.",
        ),
        Mistake(
            lambda p: p.mean(0),
            "this is the mean of the logarithms, not the logarithm of the mean.",
        ),
        Mistake(lambda p: p.sum(0), "likelihoods are multiplied: average them over the draws."),
        Mistake(
            lambda p: p.max(0).values,
            "this is the best draw alone: average over the draws.",
        ),
        Mistake(
            lambda p: _log_mean(p.mT),
            "the wrong axis: average over draws (the first), not over images.",
        ),
        Mistake(
            lambda p: p.logsumexp(0) - math.log(p.shape[1]),
            "the number of images is subtracted, not the number of draws.",
        ),
        Mistake(
            lambda p: _log_mean(p).mean(),
            "one value per image is expected, not their mean.",
        ),
        Mistake(lambda p: _log_mean(p).sum(), "one value per image is expected, not their sum."),
        Mistake(lambda p: -_log_mean(p), "its sign is wrong."),
    ],
    (0,),
    shape="one value per image",
    tolerance=5e-6,
)


@recorded
def monte_carlo_likelihood(answer: Callable[[Tensor], Tensor]) -> None:
    """Check ``answer(log_p)``: ``[K, B]`` values of log p(x | z_k) to log p(x), ``[B]`` [nats]."""
    examine(MONTE_CARLO, answer)


def _gaussian_case() -> tuple[Tensor, Tensor]:
    return torch.randn(6, 3), 0.3 - torch.rand(6, 3)


def _kl_terms(loc: Tensor, log_variance: Tensor) -> Tensor:
    q = dist.Normal(loc, (log_variance / 2).exp())
    return torch.distributions.kl_divergence(q, dist.Normal(torch.zeros_like(loc), 1.0))


KL_MISTAKES: list[tuple[Callable[[Tensor, Tensor], Tensor], str]] = [
    (lambda m, s: 2 * _kl_terms(m, s).sum(1), "the 1/2 is missing."),
    (lambda m, s: -_kl_terms(m, s).sum(1), "its sign is wrong: a KL is never negative."),
    (lambda m, s: -2 * _kl_terms(m, s).sum(1), "its sign is wrong, and the 1/2 is missing."),
    (lambda m, s: _kl_terms(m, s).mean(1), "mean for sum: the KLs of independent latents add up."),
    (lambda m, s: _kl_terms(m, s).sum(0), "the wrong axis: sum over latents, not over images."),
    (lambda m, s: _kl_terms(m, s).sum(), "summed over images too: one value per image."),
    (lambda m, s: _kl_terms(m, s).sum(1).mean(), "averaged over images: one value per image."),
    (
        lambda m, s: _kl_terms(m, s).mean(),
        "averaged over everything: sum over latents, and keep one value per image.",
    ),
    (lambda m, s: _kl_terms(m, s), "not summed over latents: one value per image."),
    (
        lambda m, s: 0.5 * (s + m**2 - 1 - s.log()).sum(1),
        "the log variance is used as variance: take its exponential.",
    ),
    (
        lambda m, s: 0.5 * (s**2 + m**2 - 1 - (s**2).log()).sum(1),
        "the log variance is used as standard deviation: take its exponential.",
    ),
    (
        lambda m, s: 0.5 * ((s / 2).exp() + m**2 - 1 - s).sum(1),
        "the standard deviation stands where the variance belongs.",
    ),
    (
        lambda m, s: _kl_terms(m, 2 * s).sum(1),
        "log variance for log standard deviation: the argument is log sigma^2, not log sigma.",
    ),
    (
        lambda m, s: 0.5 * (s.exp() + m**2 - 1 - s / 2).sum(1),
        "log sigma stands where log sigma^2 belongs.",
    ),
    (lambda m, s: 0.5 * (s.exp() + m**2 - s).sum(1), "the -1 is missing: at N(0, I) a KL is 0."),
    (
        lambda m, s: 0.5 * (s.exp() + m**2 - s).sum(1) - 0.5,
        "the -1 counts once per latent, not once.",
    ),
    (lambda m, s: 0.5 * (s.exp() + m**2 + 1 - s).sum(1), "the 1 has the wrong sign."),
    (
        lambda m, s: 0.5 * (s.exp() + m**2 - 1 + s).sum(1),
        "log sigma^2 has the wrong sign: a KL grows without limit as sigma goes to 0.",
    ),
    (lambda m, s: 0.5 * (s.exp() + m - 1 - s).sum(1), "the mean is not squared."),
    (lambda m, s: 0.5 * (s.exp() - 1 - s).sum(1), "the mean is missing."),
    (lambda m, s: 0.5 * (s.exp() + m**2 - 1 - s.exp().log1p()).sum(1), "log(1 + sigma^2)?"),
    (
        lambda m, s: 0.5 * ((-s).exp() + m**2 * (-s).exp() - 1 + s).sum(1),
        "this is the KL the other way round, from N(0, I) to q.",
    ),
]


@recorded
def kl(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Check ``answer(loc, log_variance)``: KL(N(loc, sigma^2) || N(0, I)), ``[B]`` [nats]."""
    mistakes = [Mistake(*pair) for pair in KL_MISTAKES]
    right = lambda m, s: _kl_terms(m, s).sum(1)  # noqa: E731
    examine(Task("kl", [right], _gaussian_case, mistakes, (0, 1), shape="one per image"), answer)


def _drawn(loc: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    return loc + (log_variance / 2).exp() * noise


@recorded
def reparametrise(answer: Noisy) -> None:
    """Check ``answer(loc, log_variance, noise)``: a draw of q as a function of N(0, I) noise."""

    def case() -> tuple[Tensor, Tensor, Tensor]:
        return *_gaussian_case(), torch.randn(6, 3)

    examine(
        Task(
            "reparametrise",
            [_drawn],
            case,
            [
                Mistake(
                    lambda m, s, e: m + s.exp() * e,
                    "the noise is multiplied by the variance: it takes the standard deviation.",
                ),
                Mistake(
                    lambda m, s, e: m + s * e,
                    "the noise is multiplied by the log variance: take the standard deviation.",
                ),
                Mistake(
                    lambda m, s, e: m + (2 * s).exp() * e, "the noise is multiplied by sigma^4."
                ),
                Mistake(lambda m, s, e: m + s.exp().sqrt() + e, "multiply the noise by sigma."),
                Mistake(lambda m, s, e: m + e, "the noise is not scaled: its sigma is 1 now."),
                Mistake(lambda m, s, e: (s / 2).exp() * e, "the mean is missing."),
                Mistake(lambda m, s, e: m, "the noise is missing: this is the mean of q."),
                Mistake(
                    lambda m, s, e: _drawn(m, s, -e),
                    "subtracted noise is as good a draw, but here the noise is added.",
                ),
            ],
            (0, 1),
            shape="that of loc",
        ),
        answer,
    )
