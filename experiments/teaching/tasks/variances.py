"""Mistakes with a log variance that several tasks share."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from experiments.teaching.rubric import Mistake, hinted, within

VARIANCES = hinted(
    (lambda s: s, "the log variance stands where the variance belongs: take its exponential."),
    (lambda s: s**2, "the log variance is squared where the variance belongs."),
    lambda s: (s / 2).exp(),
    "sigma stands where sigma^2 belongs: the standard deviation for the variance.",
    lambda s: (2 * s).exp(),
    "sigma^4 stands where the variance belongs: the argument is log sigma^2, not log sigma.",
    lambda s: (-s).exp(),
    "1 / sigma^2 stands where sigma^2 belongs: exp(-...), or * and / swapped?",
    F.softplus,
    lambda s: F.softplus(s) ** 2,
    "softplus stands where the exponential belongs.",
    (lambda s: 2**s, "2 is used as the base of the exponential instead of e."),
    (lambda s: 10**s, "10 is used as the base of the exponential instead of e."),
)
"""What is taken for sigma^2, as a function of its logarithm."""

SIGMAS = hinted(
    (torch.exp, "the variance stands where the standard deviation belongs: take its root."),
    lambda s: s,
    torch.abs,
    "the log variance stands where the standard deviation belongs.",
    (lambda s: s / 2, "log sigma stands where sigma belongs: its exponential is missing."),
    torch.sqrt,
    lambda s: s.abs().sqrt(),
    "the root of the log variance is taken: the exponential is missing.",
    lambda s: (2 * s).exp(),
    "sigma^4 stands where sigma belongs: the argument is log sigma^2 already.",
    (lambda s: s.exp() / 2, "the variance is halved: take its root instead."),
    (lambda s: (s / 4).exp(), "a root too many: the root of sigma stands where sigma belongs."),
    (lambda s: (-s / 2).exp(), "1 / sigma stands where sigma belongs: a sign too many in exp."),
    (lambda s: (-s).exp(), "1 / sigma^2 stands where sigma belongs: a sign too many in exp."),
    F.softplus,
    lambda s: F.softplus(s).sqrt(),
    lambda s: F.softplus(s / 2),
    "softplus is used for the exponential: the argument is log sigma^2.",
    (torch.sigmoid, "a sigmoid is used for the exponential: sigma may be larger than 1."),
    (lambda s: 2 ** (s / 2), "2 is used as the base of the exponential instead of e."),
    (lambda s: 10 ** (s / 2), "10 is used as the base of the exponential instead of e."),
    (torch.ones_like, "sigma is 1 here: the log variance has no influence."),
)
"""What is taken for sigma, as a function of log sigma^2."""


def placed(
    where: str, formula: Callable[..., Callable[..., Any]], mistakes: Sequence[Mistake]
) -> list[Mistake]:
    """As ``within``, with hints that say where the mistake is in the larger formula."""
    found = within(formula, mistakes)
    return [mistake._replace(hint=f"{where}, {mistake.hint}") for mistake in found]
