"""The check of the likelihood of images under draws (lab 3), and mistakes in such a density."""

import math
from collections.abc import Callable

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from experiments.teaching.examine import examine
from experiments.teaching.inputs import images, latents, log_variance, network, pixels
from experiments.teaching.rubric import (
    ONE_IMAGE,
    Mistake,
    Probe,
    Task,
    Term,
    hinted,
    with_name,
    within,
)
from experiments.teaching.tasks.gaussians import LOG_2_PI
from experiments.teaching.tasks.variances import SIGMAS, VARIANCES, placed
from ppl_models.distributions.normals import IsotropicNormal


def _likelihood_case() -> tuple[Tensor, Tensor, nn.Module, Tensor]:
    K, M, D = 6 + int(torch.randint(2, ())), latents(), pixels()
    return torch.randn(images(), D), torch.randn(K, M), network(M, D), log_variance()


def _log_p(x: Tensor, z: Tensor, decoder: nn.Module, s: Tensor) -> Tensor:
    return IsotropicNormal(decoder(z).unsqueeze(1), (s / 2).exp()).log_prob(x)


def pixelwise(x: Tensor, mean: Tensor, sigma: Tensor) -> Tensor:
    """log p of every pixel, for any sigma."""
    return dist.Normal(mean, sigma, validate_args=False).log_prob(x)


def squares(x: Tensor, mean: Tensor) -> Tensor:
    """The squared distance of every image from the mean."""
    return (x - mean).square().sum(-1)


SUMS = hinted(
    (lambda *a: _log_p(*a).exp(), "this is p(x | z), not its logarithm."),
    (lambda *a: -_log_p(*a), "its sign is wrong: this is -log p(x | z)."),
    lambda *a: _log_p(*a).logsumexp(0),
    "the draws are already combined: this function keeps one row per draw.",
    lambda x, z, f, s: pixelwise(x, f(z).unsqueeze(1), (s / 2).exp()).sum(1),
    "the sum goes over the images: sum over the pixels, the last axis.",
    lambda x, z, f, s: pixelwise(x, f(z).unsqueeze(1), (s / 2).exp()).sum(0),
    "the sum goes over the draws: sum over the pixels, the last axis.",
)
OF_SQUARES = hinted(
    lambda D, d, s: -D / 2 * (LOG_2_PI + s.exp()) - d / (2 * s.exp()),
    "the variance stands where its logarithm belongs, beside log 2 pi.",
    lambda D, d, s: -(LOG_2_PI + s) / 2 - d / (2 * s.exp()),
    "the constant and log sigma belong to every pixel, and are counted for one alone.",
    lambda D, d, s: -(LOG_2_PI + D * s) / 2 - d / (2 * s.exp()),
    "log 2 pi belongs to every pixel, and is counted for one alone.",
    lambda D, d, s: -(D * LOG_2_PI + s) / 2 - d / (2 * s.exp()),
    "log sigma belongs to every pixel, and is counted for one alone.",
    lambda D, d, s: -D / 2 * (math.log2(2 * math.pi) + s) - d / (2 * s.exp()),
    "the constant takes the logarithm to base 2: it is the natural one.",
    lambda D, d, s: -D / 2 * (math.log10(2 * math.pi) + s) - d / (2 * s.exp()),
    "the constant takes the logarithm to base 10: it is the natural one.",
    lambda D, d, s: -D / 2 * (math.log(math.pi) + s) - d / (2 * s.exp()),
    "in the constant a 2 is missing: it is log 2 pi.",
    (lambda D, d, s: -d, "the squared distance stands alone: where are sigma and the constant?"),
    lambda D, d, s: -d / 2,
    "sigma is 1 and the constant is missing: the log variance is unused.",
    (lambda D, d, s: -d / D, "the mean squared error over pixels is not a log-density."),
    lambda D, d, s: -D / 2 * (LOG_2_PI + s) - d.sqrt() / (2 * s.exp()),
    "a root is taken of the squared distance.",
)
OF_MEANS = hinted(
    lambda x, mean, s: pixelwise(x, mean, (s / 2).exp()).mean(-1),
    "the pixels are averaged: they are independent given z, so their log-densities add up.",
    lambda x, mean, s: -x.shape[1] / 2 * (LOG_2_PI + s) - (x - mean).abs().sum(-1) / 2 / s.exp(),
    "the distance is not squared.",
)
DIVISORS = placed(
    "in the divisor of the squared distance",
    lambda f: lambda D, d, s: -D / 2 * (LOG_2_PI + s) - d / (2 * f(s)),
    VARIANCES,
)
DENSITIES = [
    *OF_MEANS,
    *within(
        lambda f: lambda x, mean, s: f(x.shape[1], squares(x, mean), s),
        [*OF_SQUARES, *DIVISORS],
    ),
    *within(lambda sigma: lambda x, mean, s: pixelwise(x, mean, sigma(s)).sum(-1), SIGMAS),
]
"""What is taken for log p(x | z), as a function of x, its mean and log sigma^2."""
MISTAKES = [
    *SUMS,
    *within(lambda f: lambda x, z, decoder, s: f(x, decoder(z).unsqueeze(1), s), DENSITIES),
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
        "the squared distance over 2 sigma^2",
        lambda x, z, f, s: -squares(x, f(z).unsqueeze(1)) / 2 / s.exp(),
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
