"""A draw made of noise, and the usual mistakes in it."""

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.teaching.checking import Mistake, hinted

SCALES = hinted(
    (torch.exp, "the noise is multiplied by the variance: it takes the standard deviation."),
    (lambda s: s, "the noise is multiplied by the log variance: take the standard deviation."),
    (lambda s: s / 2, "the noise is multiplied by log sigma: its exponential is missing."),
    (torch.sqrt, "the root of the log variance is taken: its exponential is missing."),
    lambda s: s.abs().sqrt(),
    "the root of the log variance is taken: the exponential is missing.",
    lambda s: (2 * s).exp(),
    "the noise is multiplied by sigma^4: the argument is log sigma^2 already.",
    (lambda s: s.exp() / 2, "the variance is halved: it is its root that is wanted."),
    (lambda s: (s / 4).exp(), "a root too many: the noise is multiplied by the root of sigma."),
    (lambda s: (-s / 2).exp(), "the noise is divided by sigma: a sign too many in exp."),
    (lambda s: (-s).exp(), "the noise is divided by sigma^2: a sign too many in exp."),
    F.softplus,
    lambda s: F.softplus(s).sqrt(),
    "softplus is used for the exponential: the argument is log sigma^2.",
    (lambda s: F.softplus(s / 2), "softplus is used for the exponential."),
    (lambda s: 2 ** (s / 2), "2 is used as base of the exponential instead of e."),
    (lambda s: 10 ** (s / 2), "10 is used as base of the exponential instead of e."),
    (torch.ones_like, "the noise is not scaled: its sigma is 1 now."),
    (torch.zeros_like, "the noise is missing: this is the mean of q."),
    (lambda s: -(s / 2).exp(), "subtracted noise is as good a draw, but here the noise is added."),
    (torch.sigmoid, "a sigmoid is used for the exponential: sigma may be larger than 1."),
)


def right_draw(loc: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """A draw of N(loc, sigma^2) made of noise."""
    return loc + (log_variance / 2).exp() * noise


FORMULAS = hinted(
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
MISTAKES = [
    *(Mistake(lambda m, s, e, f=f: m + f(s) * e, hint) for f, hint in SCALES),
    *(Mistake(*told) for told in FORMULAS),
]
