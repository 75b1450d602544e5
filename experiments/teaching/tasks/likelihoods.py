"""The check of the likelihood of images under draws (lab 3)."""

import math
from collections.abc import Callable

import pyro.distributions as dist
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.teaching.checking import (
    ONE_IMAGE,
    Mistake,
    Probe,
    Task,
    Term,
    hinted,
    with_name,
    within,
)
from experiments.teaching.examining import examine
from experiments.teaching.inputs import images, latents, log_variance, network, pixels
from experiments.teaching.tasks.gaussians import LOG_2_PI
from ppl_models.distributions.normals import IsotropicNormal


def _likelihood_case() -> tuple[Tensor, Tensor, nn.Module, Tensor]:
    K, M, D = 6 + int(torch.randint(2, ())), latents(), pixels()
    return torch.randn(images(), D), torch.randn(K, M), network(M, D), log_variance()


def _log_p(x: Tensor, z: Tensor, decoder: nn.Module, s: Tensor) -> Tensor:
    return IsotropicNormal(decoder(z).unsqueeze(1), (s / 2).exp()).log_prob(x)


def _normal(mean: Tensor, sigma: Tensor, x: Tensor) -> Tensor:
    return dist.Normal(mean.unsqueeze(1), sigma, validate_args=False).log_prob(x)


def _squares(x: Tensor, z: Tensor, decoder: nn.Module) -> Tensor:
    return (x - decoder(z).unsqueeze(1)).square().sum(-1)


def _form(x: Tensor, squares: Tensor, constant: Tensor, variance: Tensor) -> Tensor:
    """-D/2 times a constant, minus half the squared distances over a variance."""
    return -0.5 * x.shape[1] * constant - squares / (2 * variance)


FORMULAS = hinted(
    lambda *a: _log_p(*a) / a[0].shape[1],
    "it is averaged over pixels: pixels are independent given z, so their log-densities add up.",
    (lambda *a: _log_p(*a).exp(), "this is p(x | z), not its logarithm."),
    (lambda *a: -_log_p(*a), "its sign is wrong: this is -log p(x | z)."),
    lambda *a: _log_p(*a).logsumexp(0),
    "the draws are already combined: this function keeps one row per draw.",
    lambda x, z, f, s: _normal(f(z), (s / 2).exp(), x).sum(1),
    "the sum goes over the images: sum over the pixels, the last axis.",
    lambda x, z, f, s: _normal(f(z), (s / 2).exp(), x).sum(0),
    "the sum goes over the draws: sum over the pixels, the last axis.",
    lambda x, z, f, s: _form(x, _squares(x, z, f), LOG_2_PI + s, s),
    "the log variance is used as variance in the squared distance's denominator: take its "
    "exponential.",
    lambda x, z, f, s: _form(x, _squares(x, z, f), LOG_2_PI + s.exp(), s.exp()),
    "the variance stands where its logarithm belongs, beside log 2 pi.",
    lambda x, z, f, s: _form(x, _squares(x, z, f), LOG_2_PI + s, (s / 2).exp()),
    "the squared distance is divided by sigma: divide it by sigma^2.",
    lambda x, z, f, s: _form(x, _squares(x, z, f), LOG_2_PI + s, (-s).exp()),
    "the squared distance is multiplied by sigma^2: divide it.",
    lambda x, z, f, s: _form(x, _squares(x, z, f), LOG_2_PI + s, (2 * s).exp()),
    "the squared distance is divided by sigma^4: divide it by sigma^2.",
    lambda x, z, f, s: -0.5 * (LOG_2_PI + s) - _squares(x, z, f) / (2 * s.exp()),
    "the constant and log sigma belong to every pixel, and are counted for one alone.",
    lambda x, z, f, s: _log_p(x, z, f, s) + (x.shape[1] - 1) * LOG_2_PI / 2,
    "log 2 pi belongs to every pixel, and is counted for one alone.",
    lambda x, z, f, s: _log_p(x, z, f, s) + (x.shape[1] - 1) * s / 2,
    "log sigma belongs to every pixel, and is counted for one alone.",
    lambda x, z, f, s: _form(x, _squares(x, z, f), math.log2(2 * math.pi) + s, s.exp()),
    "the constant takes the logarithm to base 2: it is the natural one.",
    lambda x, z, f, s: _form(x, _squares(x, z, f), math.log10(2 * math.pi) + s, s.exp()),
    "the constant takes the logarithm to base 10: it is the natural one.",
    lambda x, z, f, s: _form(x, _squares(x, z, f), math.log(math.pi) + s, s.exp()),
    "in the constant a 2 is missing: it is log 2 pi.",
    lambda x, z, f, s: -_squares(x, z, f),
    "this is the squared distance alone: where are sigma and the constant?",
    lambda x, z, f, s: _form(x, (x - f(z).unsqueeze(1)).abs().sum(-1), LOG_2_PI + s, s.exp()),
    "the distance is not squared.",
    lambda x, z, f, s: _form(x, _squares(x, z, f).sqrt(), LOG_2_PI + s, s.exp()),
    "a root is taken of the squared distance.",
)
SIGMAS = hinted(
    (torch.exp, "the variance is used as standard deviation: dist.Normal takes sigma."),
    lambda s: (2 * s).exp(),
    "sigma^4 is used as standard deviation: the parameter is log sigma^2.",
    (lambda s: s, "the log variance is used as standard deviation."),
    (torch.abs, "the log variance is used as standard deviation."),
    (lambda s: s / 2, "log sigma is used as sigma: its exponential is missing."),
    (torch.sqrt, "the root of the log variance is used as sigma."),
    (lambda s: (s / 4).exp(), "sigma is used as variance: the parameter is log sigma^2."),
    (lambda s: (-s / 2).exp(), "1 / sigma is used as sigma: a sign too many in the exponential."),
    lambda s: (-s).exp(),
    "1 / sigma^2 is used as sigma: a sign too many in the exponential, and no root.",
    F.softplus,
    lambda s: F.softplus(s).sqrt(),
    "softplus is used for the exponential: the parameter is the logarithm of a variance.",
    (torch.ones_like, "sigma is 1 here: log_variance has no influence."),
    (lambda s: 2 ** (s / 2), "2 is used as base of the exponential instead of e."),
    (lambda s: 10 ** (s / 2), "10 is used as base of the exponential instead of e."),
)
MISTAKES = [
    *FORMULAS,
    *within(lambda sigma: lambda x, z, f, s: _normal(f(z), sigma(s), x).sum(-1), SIGMAS),
]


def rough_pi(right: Callable[..., Tensor]) -> list[Mistake]:
    """Log-densities of the rows of the first argument, ``[B, D]``, with an inaccurate pi."""
    return [
        Mistake(
            lambda *a, pi=pi: right(*a) + a[0].shape[1] / 2 * math.log(math.pi / pi),
            f"the value of pi is too rough ({pi}): take math.pi or torch.pi.",
        )
        for pi in (3.14, 3.141, 3.142, 22 / 7)
    ]


TERMS = [
    Term("the constant D/2 log 2 pi", lambda x, z, f, s: torch.tensor(-x.shape[1] * LOG_2_PI / 2)),
    Term("the term with log sigma^2", lambda x, z, f, s: -x.shape[1] * s / 2),
    Term(
        "the squared distance over 2 sigma^2", lambda x, z, f, s: -_squares(x, z, f) / 2 / s.exp()
    ),
]
PROBES = [
    Probe("log sigma^2 = 0", lambda x, z, f, s: (x, z, f, 0 * s), "how log sigma^2 enters"),
    Probe("there is one draw", lambda x, z, f, s: (x, z[:1], f, s), "the axis of the draws"),
    Probe(ONE_IMAGE, lambda x, z, f, s: (x[:1], z, f, s), "the axis of the images"),
    Probe(
        "every image is 0 and the decoder gives 0",
        lambda x, z, f, s: (0 * x, z, nn.Sequential(f, nn.Threshold(torch.inf, 0.0)), s),
        "how the images and the decoded draws enter",
    ),
]


@with_name
def log_likelihood(answer: Callable[[Tensor, Tensor, nn.Module, Tensor], Tensor]) -> None:
    """Check ``answer(x, z, decoder, log_variance)``: log p(x_n | z_k), ``[K, B]`` [nats]."""
    task = Task(
        "log_likelihood",
        [_log_p],
        _likelihood_case,
        MISTAKES,
        (1, 3),
        shape="draws, then images",
        near=rough_pi(_log_p),
        terms=TERMS,
        probes=PROBES,
        sizes=lambda x, z, f, s: {"pixels": x.shape[1], "images": len(x), "draws": len(z)},
    )
    examine(task, answer)
