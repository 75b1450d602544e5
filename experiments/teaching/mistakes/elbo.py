"""What the evidence lower bound is made of, and the usual mistakes in it."""

from collections.abc import Callable

import pyro.distributions as dist
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.teaching.checking import Mistake, hinted
from experiments.teaching.mistakes.draws import SCALES, right_draw
from experiments.teaching.mistakes.gaussians import LOG_2_PI, right_kl, rough_pi

Answer = Callable[[Tensor, Tensor, Tensor, Tensor, nn.Module, Tensor], Tensor]


def kl_of(loc: Tensor, v: Tensor) -> Tensor:
    return right_kl(loc, v).sum(1)


def fit_of(x: Tensor, mean: Tensor, s: Tensor, sigma: Tensor | None = None) -> Tensor:
    """log p(x | z) of every image, or with another sigma."""
    scale = (s / 2).exp() if sigma is None else sigma
    return dist.Normal(mean, scale, validate_args=False).log_prob(x).sum(1)


def bound(
    x: Tensor, m: Tensor, v: Tensor, e: Tensor, f: nn.Module, s: Tensor, *, beta: float = 1.0
) -> Tensor:
    """The bound of every image, with a factor on the KL."""
    return fit_of(x, f(right_draw(m, v, e)), s) - beta * kl_of(m, v)


def constant(x: Tensor, s: Tensor) -> Tensor:
    """What the density of a pixel has besides its squared distance, over all pixels."""
    return x.shape[1] * (LOG_2_PI + s) / 2


def by_draw(z: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Answer:
    """The bound at another draw."""
    return lambda x, m, v, e, f, s: (fit_of(x, f(z(m, v, e)), s) - kl_of(m, v)).mean()


def scaled_by(scale: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """A draw with something else for sigma."""
    return lambda m, v, e: m + scale(v) * e


def by_kl(kl: Callable[[Tensor, Tensor], Tensor]) -> Answer:
    """The bound with something else for the mean of the KL."""
    return lambda x, m, v, e, f, s: fit_of(x, f(right_draw(m, v, e)), s).mean() - kl(m, v)


def by_fit(fit: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Answer:
    """The bound with something else for log p(x | z)."""
    return lambda x, m, v, e, f, s: (fit(x, f(right_draw(m, v, e)), s) - kl_of(m, v)).mean()


def by_sigma(sigma: Callable[[Tensor], Tensor]) -> Answer:
    """The bound with something else for sigma of the pixels."""
    return by_fit(lambda x, mean, s: fit_of(x, mean, s, sigma(s)))


def squares(x: Tensor, mean: Tensor) -> Tensor:
    return (x - mean).square().sum(1)


WHOLE = hinted(
    (lambda *a: -bound(*a).mean(), "its sign is wrong: this is the loss; the bound is maximised."),
    (lambda *a: bound(*a).sum(), "it is summed over images: average them."),
    (lambda *a: bound(*a).mean() / len(a[0]), "it is divided by the number of images twice."),
    (lambda *a: bound(*a).exp().mean(), "this is the exponential of the bound."),
    lambda *a: bound(*a, beta=-1.0).mean(),
    "the KL has the wrong sign: it is the price of leaving the prior.",
    (lambda *a: bound(*a, beta=0.0).mean(), "the KL is missing: nothing holds q near the prior."),
    (lambda *a: bound(*a, beta=0.5).mean(), "the KL counts half: is its 1/2 taken twice?"),
    (lambda *a: bound(*a, beta=2.0).mean(), "the KL counts twice: is its 1/2 missing?"),
    (lambda *a: -bound(*a, beta=-1.0).mean(), "the reconstruction term has the wrong sign."),
    lambda x, m, v, e, f, s: -kl_of(m, v).mean(),
    "the KL alone is there: where is log p(x | z)?",
)
KLS = hinted(
    (lambda m, v: right_kl(m, v).mean(), "the KL is averaged over the latents: sum them."),
    lambda m, v: kl_of(m, v).sum(),
    "the KL is summed over images, the other term is averaged: treat both alike.",
    (lambda m, v: kl_of(m, v).mean() / len(m), "the KL is divided by the number of images twice."),
    (lambda m, v: -kl_of(m, v).mean(), "the KL has the wrong sign."),
    lambda m, v: kl_of(-m * (-v / 2).exp(), -v).mean(),
    "the KL is the other way round, from the prior to q.",
    (lambda m, v: kl_of(m, 2 * v).mean(), "in the KL, log sigma^2 is taken for log sigma."),
    (lambda m, v: kl_of(m, v / 2).mean(), "in the KL, sigma is used as variance."),
    (lambda m, v: kl_of(m, -v).mean(), "in the KL, log sigma^2 has the wrong sign."),
)
FITS = hinted(
    lambda x, mean, s: fit_of(x, mean, s) / x.shape[1],
    "the log-likelihood is averaged over pixels: sum them, or the KL weighs too much.",
    lambda x, mean, s: -squares(x, mean),
    "the squared distance is no log-density: sigma and the 1/2 are missing.",
    lambda x, mean, s: -squares(x, mean) / 2,
    "this log-density has sigma = 1 and no constant: log_pixel_variance is unused.",
    lambda x, mean, s: -squares(x, mean) / x.shape[1],
    "the mean squared error over pixels is no log-density.",
    lambda x, mean, s: fit_of(x, mean, s) + constant(x, s) * (1 - 1 / x.shape[1]),
    "the normalising constant belongs to every pixel, and is counted for one alone.",
    lambda x, mean, s: fit_of(x, x, s) - squares(x, mean) / (2 * s),
    "the log variance of the pixels divides the squared distance: its exponential does.",
    lambda x, mean, s: fit_of(x, x, s) - squares(x, mean) / (s / 2).exp() / 2,
    "sigma divides the squared distance of the pixels: sigma^2 does.",
)
SIGMAS = hinted(
    torch.exp,
    "the variance is used as standard deviation of the pixels: dist.Normal takes sigma.",
    (lambda s: s, "the log variance is used as standard deviation of the pixels."),
    (torch.abs, "the log variance is used as standard deviation of the pixels."),
    (lambda s: s / 2, "log sigma is used as sigma of the pixels."),
    (torch.ones_like, "sigma of the pixels is 1: log_pixel_variance is unused."),
    (lambda s: (-s / 2).exp(), "1 / sigma is used as sigma of the pixels."),
    F.softplus,
    lambda s: F.softplus(s).sqrt(),
    "softplus is used for the exponential of the pixels' log variance.",
    (lambda s: (2 * s).exp(), "sigma^4 is used as standard deviation of the pixels."),
)
OTHERS = hinted(
    (by_draw(lambda m, v, e: e), "the decoder gets the noise: it takes a draw of q."),
    (by_draw(lambda m, v, e: (v / 2).exp() * e), "in the draw, the mean of q is missing."),
    lambda x, m, v, e, f, s: fit_of(x, f(right_draw(m, v, e)), s).sum() - kl_of(m, v).mean(),
    "log p(x | z) is summed over images, the KL is averaged: treat both alike.",
    lambda x, m, v, e, f, s: (
        fit_of(x, f(right_draw(m, v, e)), s).mean()
        + dist.Normal(0.0, 1.0).log_prob(right_draw(m, v, e)).sum(1).mean()
    ),
    "this is log p(x, z) at the draw: log q(z | x) has to be subtracted.",
)
MISTAKES = [
    *(Mistake(*told) for told in WHOLE),
    *(Mistake(by_kl(kl), hint) for kl, hint in KLS),
    *(Mistake(by_fit(fit), hint) for fit, hint in FITS),
    *(Mistake(by_sigma(sigma), hint) for sigma, hint in SIGMAS),
    *(Mistake(by_draw(scaled_by(scale)), f"in the draw, {hint}") for scale, hint in SCALES),
    *(Mistake(*told) for told in OTHERS),
]
NEAR = rough_pi(lambda *a: bound(*a).mean())
