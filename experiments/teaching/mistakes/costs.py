"""The usual mistakes in PPCA's cost."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.teaching.checking import Mistake, hinted
from experiments.teaching.mistakes.evidence import (
    constant,
    dense,
    explained,
    idle,
    log_det,
    matrix,
    quadratic,
    right,
    whole,
)

CHANGES = hinted(
    (lambda s: s, "the logarithm of sigma^2 is used as sigma^2: take its exponential."),
    lambda s: (s / 2).exp(),
    "sigma stands for sigma^2: the standard deviation for the variance.",
    (lambda s: (2 * s).exp(), "sigma^4 stands for sigma^2: the parameter is log sigma^2 already."),
    (lambda s: s**2, "log sigma^2 is squared where its exponential belongs."),
    (lambda s: (-s).exp(), "1 / sigma^2 stands for sigma^2: a sign too many in the exponential."),
    (F.softplus, "softplus is used for the exponential: the parameter is log sigma^2."),
    (lambda s: 2**s, "2 is used as base of the exponential instead of e."),
    (lambda s: 10**s, "10 is used as base of the exponential instead of e."),
    (torch.ones_like, "sigma^2 is 1 here: log_variance has no influence."),
)
WHOLE = hinted(
    lambda *a: right(*a) / 2,
    "the 1/2 belongs to -log p(x); the cost is twice that, without the constant.",
    (lambda *a: -right(*a), "its sign is wrong: a cost is minimised."),
    lambda *a: -(right(*a) + constant(a[2])) / 2,
    "this is log p(x) itself, which is maximised: the cost is -2 times that, without the "
    "constant D log 2 pi.",
    lambda *a: right(*a) + constant(a[2]),
    "the constant D log 2 pi is in it: harmless for training, but not part of this cost.",
    lambda *a: (right(*a) + constant(a[2])) / 2,
    "this is -log p(x) itself: the cost is twice that, without the constant D log 2 pi.",
    lambda *a: log_det(*a) + quadratic(*a) * len(a[0]),
    "the quadratic form is summed over the images: its mean stands beside log |C|.",
    lambda *a: log_det(*a) + quadratic(*a) / len(a[0]),
    "the quadratic form is divided by the number of images twice: .mean() divides already.",
    lambda *a: log_det(*a) / len(a[0]) + quadratic(*a),
    "log |C| is divided by the number of images: it is the same for all, so its mean is it.",
    lambda *a: log_det(*a) + quadratic(*a) / len(a[2]),
    "the quadratic form is averaged over pixels: it is a sum over them.",
    (lambda *a: quadratic(*a), "log |C| is missing: without it sigma grows without limit."),
    lambda *a: log_det(*a) + whole(*a),
    "the squared distance stands for the quadratic form: C^-1 is missing.",
)
DETERMINANTS = hinted(
    lambda M, d, s: M.det() + d * s,
    "the determinant of M stands where its logarithm belongs (logdet, or slogdet).",
    lambda M, d, s: M.det() * s.exp() ** d,
    "the determinant of C stands where its logarithm belongs (logdet, or slogdet).",
    lambda M, d, s: M.det().log2() + d * s,
    "the logarithm of the determinant is to base 2: it is the natural one.",
    lambda M, d, s: M.det().log10() + d * s,
    "the logarithm of the determinant is to base 10: it is the natural one.",
    lambda M, d, s: (M - s.exp() * torch.eye(len(M), dtype=M.dtype)).logdet() + d * s,
    "the determinant is that of W⊤W: sigma^2 I is missing in it.",
    lambda M, d, s: M.logdet() + (d + len(M)) * s,
    "the power of sigma^2 in the determinant is wrong: how many dimensions does W not reach?",
    lambda M, d, s: M.logdet() + len(M) * s,
    "the power of sigma^2 in the determinant is M: how many dimensions does W not reach?",
    lambda M, d, s: M.logdet() + s,
    "the power of sigma^2 in the determinant is 1: how many dimensions does W not reach?",
    lambda M, d, s: M.logdet() + (d + 2 * len(M)) * s,
    "the power of sigma^2 in the determinant is D + M: how many dimensions does W not reach?",
    lambda M, d, s: M.logdet() + d * s.exp(),
    "sigma^2 stands where its logarithm belongs (in the determinant).",
    lambda M, d, s: M.logdet() + s.exp() ** d,
    "a power of sigma^2 stands where its logarithm belongs (in the determinant).",
    lambda M, d, s: M.logdet() + d * s.log(),
    "the logarithm of a logarithm is taken (in the determinant).",
)
OTHERS = hinted(
    lambda x, W, mu, s: right(x, W, torch.zeros_like(mu), s),
    "x is not centred: mu has to be subtracted.",
    lambda x, W, mu, s: right(x, W, x.mean(0), s),
    "x is centred with the batch's mean: the parameter is mu.",
    (lambda x, W, mu, s: right(x, W, -mu, s), "mu is added to x: it has to be subtracted."),
    lambda *a: log_det(*a) + (whole(*a) - explained(*a, M=lambda M: M)) / a[3].exp(),
    "M stands where its inverse belongs.",
    lambda *a: log_det(*a) + (whole(*a) - explained(*a, M=lambda M: 1 / M)) / a[3].exp(),
    "1 / M inverts every entry for itself: the inverse of a matrix is M.inverse().",
)
QUADRATICS = hinted(
    lambda w, e, v: w / v - e,
    "in Woodbury's second term a factor is missing: which power of sigma^2 has C^-1?",
    (lambda w, e, v: w - e / v, "in Woodbury's first term sigma^2 does not divide."),
    lambda w, e, v: w / v - e / v**2,
    "in Woodbury's second term sigma^2 divides once too often.",
    lambda w, e, v: (w - e) / v**2,
    "the quadratic form is divided by sigma^4: sigma^2 divides once too often.",
    (lambda w, e, v: w - e, "sigma^2 does not divide."),
    (lambda w, e, v: (w - e) * v, "sigma^2 multiplies the quadratic form: it divides."),
    (lambda w, e, v: (w - e) / v.sqrt(), "sigma divides the quadratic form, not sigma^2."),
    lambda w, e, v: (w - e) / v.log(),
    "the log variance divides the quadratic form: its exponential does.",
)


def by_determinant(log_det: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The cost with something else, of the matrix M, D - M and log sigma^2, for ``log |C|``."""
    return lambda *a: log_det(matrix(a[1], a[3].exp()), idle(a[1]), a[3]) + quadratic(*a)


def by_quadratic(form: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The cost with another form of ``whole``, ``explained`` and sigma^2 as its quadratic one."""
    return lambda *a: log_det(*a) + form(whole(*a), explained(*a), a[3].exp())


MISTAKES = [
    *(Mistake(*told) for told in WHOLE),
    *(Mistake(by_determinant(log_det), hint) for log_det, hint in DETERMINANTS),
    *(Mistake(lambda x, W, mu, s, f=f: dense(x, W, mu, f(s)), hint) for f, hint in CHANGES),
    *(Mistake(*told) for told in OTHERS),
    *(Mistake(by_quadratic(form), hint) for form, hint in QUADRATICS),
]
