"""The usual mistakes in PPCA's cost."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.teaching.checking import Mistake
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

__all__ = ["CHANGES", "MISTAKES"]

CHANGES: list[tuple[Callable[[Tensor], Tensor], str]] = [
    (lambda s: s, "the logarithm of sigma^2 is used as sigma^2: take its exponential."),
    (
        lambda s: (s / 2).exp(),
        "sigma stands for sigma^2: the standard deviation for the variance.",
    ),
    (lambda s: (2 * s).exp(), "sigma^4 stands for sigma^2: the parameter is log sigma^2 already."),
    (lambda s: s**2, "log sigma^2 is squared where its exponential belongs."),
    (lambda s: (-s).exp(), "1 / sigma^2 stands for sigma^2: a sign too many in the exponential."),
    (F.softplus, "softplus is used for the exponential: the parameter is log sigma^2."),
    (lambda s: 2**s, "2 is used as base of the exponential instead of e."),
    (lambda s: 10**s, "10 is used as base of the exponential instead of e."),
    (torch.ones_like, "sigma^2 is 1 here: log_variance has no influence."),
]
FACTOR = "in Woodbury's second term a factor is missing: which power of sigma^2 has C^-1?"
COSTS: list[tuple[Callable[..., Tensor], str]] = [
    (
        lambda *a: right(*a) / 2,
        "the 1/2 belongs to -log p(x); the cost is twice that, without the constant.",
    ),
    (lambda *a: -right(*a), "its sign is wrong: a cost is minimised."),
    (
        lambda *a: -(right(*a) + constant(a[2])) / 2,
        "this is log p(x) itself, which is maximised: the cost is -2 times that, without the "
        "constant D log 2 pi.",
    ),
    (
        lambda *a: right(*a) + constant(a[2]),
        "the constant D log 2 pi is in it: harmless for training, but not part of this cost.",
    ),
    (
        lambda *a: (right(*a) + constant(a[2])) / 2,
        "this is -log p(x) itself: the cost is twice that, without the constant D log 2 pi.",
    ),
    (
        lambda *a: log_det(*a) + quadratic(*a) * len(a[0]),
        "the quadratic form is summed over the images: its mean stands beside log |C|.",
    ),
    (
        lambda *a: log_det(*a) + quadratic(*a) / len(a[0]),
        "the quadratic form is divided by the number of images twice: .mean() divides already.",
    ),
    (
        lambda *a: log_det(*a) / len(a[0]) + quadratic(*a),
        "log |C| is divided by the number of images: it is the same for all, so its mean is it.",
    ),
    (lambda *a: right(*a) * len(a[0]), "it is summed over the images: average them."),
    (lambda *a: right(*a) / len(a[0]), "it is divided by the number of images twice."),
    (
        lambda *a: log_det(*a) + quadratic(*a) / len(a[2]),
        "the quadratic form is averaged over pixels: it is a sum over them.",
    ),
    (lambda *a: quadratic(*a), "log |C| is missing: without it sigma grows without limit."),
    (lambda *a: log_det(*a), "the quadratic form is missing: no image enters the cost."),
    (
        lambda *a: log_det(*a) + whole(*a) / a[3].exp(),
        "Woodbury's second term is missing: what W explains has to be subtracted.",
    ),
    (
        lambda *a: log_det(*a) + whole(*a),
        "the squared distance stands for the quadratic form: C^-1 is missing.",
    ),
    (lambda *a: log_det(*a) - quadratic(*a), "the sign of the quadratic form is wrong."),
    (lambda *a: quadratic(*a) - log_det(*a), "the sign of log |C| is wrong."),
    (
        lambda *a: matrix(a[1], a[3].exp()).logdet() + quadratic(*a),
        "log |M| stands for log |C|: the determinant lemma has a power of sigma^2 besides.",
    ),
    (
        lambda *a: matrix(a[1], a[3].exp()).det() + idle(a[1]) * a[3] + quadratic(*a),
        "the determinant of M stands where its logarithm belongs (logdet, or slogdet).",
    ),
    (
        lambda *a: matrix(a[1], a[3].exp()).det() * a[3].exp() ** idle(a[1]) + quadratic(*a),
        "the determinant of C stands where its logarithm belongs (logdet, or slogdet).",
    ),
    (
        lambda *a: matrix(a[1], a[3].exp()).det().log2() + idle(a[1]) * a[3] + quadratic(*a),
        "the logarithm of the determinant is to base 2: it is the natural one.",
    ),
    (
        lambda *a: matrix(a[1], a[3].exp()).det().log10() + idle(a[1]) * a[3] + quadratic(*a),
        "the logarithm of the determinant is to base 10: it is the natural one.",
    ),
    (
        lambda *a: (a[1].mT @ a[1]).logdet() + idle(a[1]) * a[3] + quadratic(*a),
        "the determinant is that of W⊤W: sigma^2 I is missing in it.",
    ),
    (
        lambda *a: -matrix(a[1], a[3].exp()).logdet() + idle(a[1]) * a[3] + quadratic(*a),
        "log |M| has the wrong sign (or is that of the inverse).",
    ),
    *(
        (lambda *a, f=f: matrix(a[1], a[3].exp()).logdet() + f(*a) + quadratic(*a), hint)
        for f, hint in (
            (
                lambda x, W, mu, s: len(W) * s,
                "the power of sigma^2 in the determinant is wrong: "
                "how many dimensions does W not reach?",
            ),
            (
                lambda x, W, mu, s: W.shape[1] * s,
                "the power of sigma^2 in the determinant is M: "
                "how many dimensions does W not reach?",
            ),
            (
                lambda x, W, mu, s: s,
                "the power of sigma^2 in the determinant is 1: how many "
                "dimensions does W not reach?",
            ),
            (
                lambda x, W, mu, s: -idle(W) * s,
                "the power of sigma^2 in the determinant has the wrong sign.",
            ),
            (
                lambda x, W, mu, s: (len(W) + W.shape[1]) * s,
                "the power of sigma^2 in the "
                "determinant is D + M: how many dimensions does W not reach?",
            ),
            (
                lambda x, W, mu, s: idle(W) * s / 2,
                "log sigma stands where log sigma^2 belongs (in the determinant).",
            ),
            (
                lambda x, W, mu, s: idle(W) * 2 * s,
                "log sigma^4 stands where log sigma^2 belongs (in the determinant).",
            ),
            (
                lambda x, W, mu, s: idle(W) * s.exp(),
                "sigma^2 stands where its logarithm belongs (in the determinant).",
            ),
            (
                lambda x, W, mu, s: s.exp() ** idle(W),
                "a power of sigma^2 stands where its logarithm belongs (in the determinant).",
            ),
            (
                lambda x, W, mu, s: idle(W) * s.log(),
                "the logarithm of a logarithm is taken (in the determinant).",
            ),
        )
    ),
    *((lambda x, W, mu, s, f=f: dense(x, W, mu, f(s)), hint) for f, hint in CHANGES),
    (
        lambda x, W, mu, s: right(x, W, torch.zeros_like(mu), s),
        "x is not centred: mu has to be subtracted.",
    ),
    (
        lambda x, W, mu, s: right(x, W, x.mean(0), s),
        "x is centred with the batch's mean: the parameter is mu.",
    ),
    (lambda x, W, mu, s: right(x, W, -mu, s), "mu is added to x: it has to be subtracted."),
    *(
        (lambda *a, f=f: log_det(*a) + f(*a), hint)
        for f, hint in (
            (
                lambda *a: (whole(*a) + explained(*a)) / a[3].exp(),
                "Woodbury subtracts its second term.",
            ),
            (
                lambda *a: (explained(*a) - whole(*a)) / a[3].exp(),
                "the quadratic form has the wrong sign.",
            ),
            (lambda *a: whole(*a) / a[3].exp() - explained(*a), FACTOR),
            (
                lambda *a: whole(*a) - explained(*a) / a[3].exp(),
                "in Woodbury's first term sigma^2 does not divide.",
            ),
            (
                lambda *a: whole(*a) / a[3].exp() - explained(*a) / (2 * a[3]).exp(),
                "in Woodbury's second term sigma^2 divides once too often.",
            ),
            (
                lambda *a: (whole(*a) - explained(*a)) / (2 * a[3]).exp(),
                "the quadratic form is divided by sigma^4: sigma^2 divides once too often.",
            ),
            (lambda *a: whole(*a) - explained(*a), "sigma^2 does not divide."),
            (
                lambda *a: (whole(*a) - explained(*a)) * a[3].exp(),
                "sigma^2 multiplies the quadratic form: it divides.",
            ),
            (
                lambda *a: (whole(*a) - explained(*a)) / (a[3] / 2).exp(),
                "sigma divides the quadratic form, not sigma^2.",
            ),
            (
                lambda *a: (whole(*a) - explained(*a)) / a[3],
                "the log variance divides the quadratic form: its exponential does.",
            ),
            (lambda *a: explained(*a) / a[3].exp(), "Woodbury's first term is missing."),
            (
                lambda *a: (whole(*a) - explained(*a, M=lambda M: M)) / a[3].exp(),
                "M stands where its inverse belongs.",
            ),
            (
                lambda *a: (whole(*a) - explained(*a, M=lambda M: 1 / M)) / a[3].exp(),
                "1 / M inverts every entry for itself: the inverse of a matrix is M.inverse().",
            ),
            (lambda *a: quadratic(*a) / 2, "the quadratic form has a 1/2 that log |C| has not."),
            (lambda *a: 2 * quadratic(*a), "the quadratic form is doubled."),
        )
    ),
]
MISTAKES = [Mistake(formula, hint) for formula, hint in COSTS]
