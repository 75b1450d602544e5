"""The KL of a Gaussian from the standard normal, and the usual mistakes in it."""

import math
from collections.abc import Callable

import pyro.distributions as dist
import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.teaching.checking import Mistake, hinted

LOG_2_PI = math.log(2 * math.pi)


def right_kl(loc: Tensor, log_variance: Tensor) -> Tensor:
    """The KL of every latent, ``[B, M]`` [nats]."""
    q = dist.Normal(loc, (log_variance / 2).exp())
    return torch.distributions.kl_divergence(q, dist.Normal(torch.zeros_like(loc), 1.0))


def _of(
    variance: Callable[[Tensor], Tensor],
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
VARIANCES = hinted(
    (lambda s: s, "the log variance stands where the variance belongs: its exponential."),
    (lambda s: s**2, "the log variance is squared where the variance belongs."),
    (lambda s: (s / 2).exp(), "the standard deviation stands where the variance belongs."),
    (lambda s: (2 * s).exp(), "sigma^4 stands where the variance belongs."),
    (lambda s: (-s).exp(), "1 / sigma^2 stands where sigma^2 belongs: exp(-...)?"),
    (torch.expm1, "the 1 is subtracted twice: by expm1 too, or outside of the 1/2?"),
    (F.softplus, "softplus stands where the exponential belongs."),
    (lambda s: 2**s, "2 is used as base of the exponential instead of e."),
    (lambda s: 10**s, "10 is used as base of the exponential instead of e."),
)
LOGS = hinted(
    (lambda s: s / math.log(2), "the logarithm is taken to base 2: use log."),
    (lambda s: s / math.log(10), "the logarithm is taken to base 10: use log."),
    (torch.log, "the logarithm of a logarithm is taken."),
    (torch.exp, "sigma^2 stands where its logarithm belongs."),
    (lambda s: s.exp().log1p(), "log(1 + sigma^2) stands for log sigma^2."),
)
SQUARES = hinted(
    (lambda m: m, "the mean is not squared."),
    (torch.abs, "the mean enters by its absolute value: square it."),
    (lambda m: m**3, "the mean is cubed: square it."),
)
FORMULAS = hinted(
    lambda m, s: 0.5 * (s + m**2 - 1 - s.log()).sum(1),
    "the log variance is used as variance: take its exponential.",
    lambda m, s: 0.5 * (s**2 + m**2 - 1 - (s**2).log()).sum(1),
    "the log variance is used as standard deviation: take its exponential.",
    _of(F.softplus, lambda s: F.softplus(s).log()),
    "softplus is used for the exponential: the argument is the logarithm of a variance.",
    _of(lambda s: F.softplus(s) ** 2, lambda s: (F.softplus(s) ** 2).log()),
    "softplus is used as sigma: the argument is the logarithm of a variance.",
    lambda m, s: right_kl(m, 2 * s).sum(1),
    "log variance for log standard deviation: the argument is log sigma^2, not log sigma.",
    lambda m, s: right_kl(m, s / 2).sum(1),
    "sigma is used as variance throughout: the argument is log sigma^2 already.",
    lambda m, s: right_kl(m, -s).sum(1),
    "log sigma^2 enters with the wrong sign: sigma^2 has become 1 / sigma^2.",
    lambda m, s: 0.5 * (s.exp() + m.sum(1, keepdim=True) ** 2 / m.shape[1] - 1 - s).sum(1),
    lambda m, s: 0.5 * ((s.exp() - 1 - s).sum(1) + m.sum(1) ** 2),
    "the means are summed before they are squared: square first.",
    lambda m, s: 0.5 * ((s.exp() + m) ** 2 - 1 - s).sum(1),
    "sigma^2 + mu is squared as a whole: only mu is.",
    lambda m, s: 0.5 * (s.exp() + m**2 - s).sum(1) - 0.5,
    "the -1 belongs to every latent, and is counted for one alone.",
    lambda m, s: 0.5 * (s.exp() + m**2 - s).sum(1) - 1,
    "a 1 is subtracted at the end: it belongs to every latent, inside the sum and the 1/2.",
    lambda m, s: right_kl(-m * (-s / 2).exp(), -s).sum(1),
    "this is the KL the other way round, from N(0, I) to q.",
    lambda m, s: -0.5 * (LOG_2_PI + 1 + s).sum(1),
    "this is the negative entropy of q alone: where is the prior?",
)
MISTAKES = [
    *(Mistake(lambda m, s, f=f: f(right_kl(m, s)), hint) for f, hint in SUMS),
    *(Mistake(_of(variance), hint) for variance, hint in VARIANCES),
    *(Mistake(*told) for told in FORMULAS),
    *(Mistake(_of(torch.exp, log), hint) for log, hint in LOGS),
    *(Mistake(_of(torch.exp, square=square), hint) for square, hint in SQUARES),
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
