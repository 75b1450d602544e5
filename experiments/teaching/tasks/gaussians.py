"""The checks of the KL of a Gaussian and of a draw of it (lab 3)."""

import math
from collections.abc import Callable

import pyro.distributions as dist
import torch
from torch import Tensor

from experiments.teaching.examine import examine
from experiments.teaching.inputs import images, latents
from experiments.teaching.rubric import ONE_IMAGE, Probe, Task, Term, hinted, with_name, within
from experiments.teaching.tasks.variances import SIGMAS, VARIANCES, placed

LOG_2_PI = math.log(2 * math.pi)


def gaussians() -> tuple[Tensor, Tensor]:
    """Means and log variances, ``[B, M]`` each, of both signs."""
    B, M = images(), latents()
    return torch.randn(B, M), 1.6 * torch.rand(B, M) - 1.0


def latent_kls(loc: Tensor, log_variance: Tensor) -> Tensor:
    """The KL from N(0, I) of every latent, ``[B, M]`` [nats]."""
    q = dist.Normal(loc, (log_variance / 2).exp())
    return torch.distributions.kl_divergence(q, dist.Normal(torch.zeros_like(loc), 1.0))


def right_kl(loc: Tensor, log_variance: Tensor) -> Tensor:
    return latent_kls(loc, log_variance).sum(1)


def _of(
    variance: Callable[[Tensor], Tensor] = torch.exp,
    log: Callable[[Tensor], Tensor] = lambda s: s,
    square: Callable[[Tensor], Tensor] = torch.square,
) -> Callable[[Tensor, Tensor], Tensor]:
    """The formula with something else for sigma^2, log sigma^2 or mu^2."""
    return lambda m, s: 0.5 * (variance(s) + square(m) - 1 - log(s)).sum(1)


SUMS = hinted(
    (lambda k: 2 * k.sum(1), "the 1/2 is missing."),
    (lambda k: -k.sum(1), "its sign is wrong: a KL is never negative."),
    (lambda k: -2 * k.sum(1), "its sign is wrong, and the 1/2 is missing."),
    (lambda k: k.sum(1) / 2, "the 1/2 is taken twice."),
    (lambda k: k.mean(1), "mean for sum: the KLs of independent latents add up."),
    (lambda k: k.sum(0), "the wrong axis: sum over latents, not over images."),
    (lambda k: k.mean(0), "the wrong axis, and mean for sum: sum over latents."),
    (lambda k: k.mean(), "averaged over everything: sum over latents, one value per image."),
    (lambda k: k.prod(1), "the latents' KLs are multiplied: independent latents add up."),
    (lambda k: k.max(1).values, "only the latent with the largest KL counts: they add up."),
    (lambda k: k[:, 0], "only the first latent counts: they add up."),
    (lambda k: 2 * k, "not summed over latents, and the 1/2 is missing."),
)
KLS = hinted(
    _of(torch.expm1),
    "the 1 is subtracted twice: by expm1 too, or outside of the 1/2?",
    lambda m, s: 0.5 * (s.exp() + m.sum(1, keepdim=True) ** 2 / m.shape[1] - 1 - s).sum(1),
    lambda m, s: 0.5 * ((s.exp() - 1 - s).sum(1) + m.sum(1) ** 2),
    "the means are summed before they are squared: square first.",
    lambda m, s: 0.5 * ((s.exp() + m) ** 2 - 1 - s).sum(1),
    "sigma^2 + mu is squared as a whole: only mu is.",
    lambda m, s: 0.5 * (s.exp() + m**2 - s).sum(1) - 0.5,
    "the -1 belongs to every latent, and is counted for one alone.",
    lambda m, s: 0.5 * (s.exp() + m**2 - s).sum(1) - 1,
    "a 1 is subtracted at the end: it belongs to every latent, inside the sum and the 1/2.",
    lambda m, s: right_kl(-m * (-s / 2).exp(), -s),
    "this is the KL the other way round, from N(0, I) to q.",
    lambda m, s: -0.5 * (LOG_2_PI + 1 + s).sum(1),
    "this is the negative entropy of q alone: where is the prior?",
    (_of(log=lambda s: s / math.log(2)), "the logarithm is taken to base 2: use log."),
    (_of(log=lambda s: s / math.log(10)), "the logarithm is taken to base 10: use log."),
    (_of(log=torch.log), "the logarithm of a logarithm is taken."),
    (_of(log=torch.exp), "sigma^2 stands where its logarithm belongs."),
    (_of(log=lambda s: s.exp().log1p()), "log(1 + sigma^2) stands for log sigma^2."),
    (_of(square=lambda m: m), "the mean is not squared."),
    (_of(square=torch.abs), "the mean enters by its absolute value: square it."),
    (_of(square=lambda m: m**3), "the mean is cubed: square it."),
)
KL_MISTAKES = [
    *within(lambda reduced: lambda m, s: reduced(latent_kls(m, s)), SUMS),
    *within(_of, VARIANCES),
    *placed("throughout", lambda f: _of(f, lambda s: f(s).log()), VARIANCES),
    *KLS,
]
KL_TERMS = [
    Term("the term with sigma^2", lambda m, s: 0.5 * s.exp().sum(1)),
    Term("the term with mu^2", lambda m, s: 0.5 * m.square().sum(1)),
    Term("the 1 of every latent", lambda m, s: -0.5 * torch.ones_like(s).sum(1)),
    Term("the term with log sigma^2", lambda m, s: -0.5 * s.sum(1)),
]
PROBES = [
    Probe("log sigma^2 = 0", lambda m, s, *e: (m, 0 * s, *e), "how log sigma^2 enters"),
    Probe("mu = 0", lambda m, s, *e: (0 * m, s, *e), "how mu enters"),
    Probe("M = 1", lambda *a: tuple(x[:, :1] for x in a), "how the latents are put together"),
    Probe(ONE_IMAGE, lambda *a: tuple(x[:1] for x in a), "the axis of the images"),
]


@with_name
def kl(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Check ``answer(loc, log_variance)``: KL(N(loc, sigma^2) || N(0, I)), ``[B]`` [nats]."""
    task = Task(
        "kl",
        [right_kl],
        gaussians,
        KL_MISTAKES,
        (0, 1),
        shape="one value per image",
        terms=KL_TERMS,
        probes=PROBES,
        sizes=lambda m, s: {"latents": m.shape[1], "images": len(m)},
    )
    examine(task, answer)


def right_draw(loc: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """A draw of N(loc, sigma^2) made of noise."""
    return loc + (log_variance / 2).exp() * noise


SCALED = [
    *within(lambda scale: lambda m, s, e: m + scale(s) * e, SIGMAS),
    *hinted(
        (lambda m, s, e: m, "the noise is missing: this is the mean of q."),
        lambda m, s, e: m - (s / 2).exp() * e,
        "subtracted noise is as good a draw, but here the noise is added.",
    ),
]
DRAWS = hinted(
    (lambda m, s, e: m + (s / 2).exp() + e, "sigma is added to the noise: multiply by it."),
    (lambda m, s, e: m + (s / 2).exp(), "the noise is missing: sigma alone is added."),
    (lambda m, s, e: m + s.exp(), "the noise is missing: sigma^2 alone is added."),
    (lambda m, s, e: (m + e) * (s / 2).exp(), "the mean is scaled too: only the noise is."),
    lambda m, s, e: (m + e) * s.exp(),
    "the mean is scaled too: only the noise is, and by sigma.",
    (lambda m, s, e: m * e + (s / 2).exp(), "mean and sigma are exchanged."),
    (lambda m, s, e: s + (m / 2).exp() * e, "the two arguments are exchanged."),
    (lambda m, s, e: e, "this is the noise itself, a draw of N(0, I)."),
    (lambda m, s, e: m + (s / 2).exp() * e**2, "the noise is squared."),
    lambda m, s, e: m + (s / 2).exp().mean() * e,
    "sigma is averaged over everything: every latent has its own.",
    (lambda m, s, e: m + (s / 2).exp() * e[:1], "all images share the first one's noise."),
    (lambda m, s, e: m + (s / 2).exp() * e[:, :1], "all latents share the first one's noise."),
    lambda m, s, e: (m + (s / 2).exp() * e).sum(1),
    "the latents are summed: a draw is a vector.",
    lambda m, s, e: (m - (m + (s / 2).exp() * e)) / (s / 2).exp(),
    "this turns a draw into noise, not noise into a draw.",
)
DRAW_TERMS = [
    Term("the mean", lambda m, s, e: m),
    Term("the noise times sigma", lambda m, s, e: (s / 2).exp() * e),
]


@with_name
def reparametrise(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Check ``answer(loc, log_variance, noise)``: a draw of q as a function of N(0, I) noise."""

    def case() -> tuple[Tensor, Tensor, Tensor]:
        loc, log_variance = gaussians()
        return loc, log_variance, torch.randn_like(loc)

    still = Probe("the noise is 0", lambda m, s, e: (m, s, 0 * e), "how the noise enters")
    task = Task(
        "reparametrise",
        [right_draw],
        case,
        [*SCALED, *DRAWS],
        (0, 1),
        shape="that of loc",
        terms=DRAW_TERMS,
        probes=[*PROBES, still],
        sizes=lambda m, s, e: {"latents": m.shape[1], "images": len(m)},
    )
    examine(task, answer)
