"""The check of probabilistic PCA's cost (lab 2), and what cost and posterior are made of."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from experiments.teaching.examine import examine
from experiments.teaching.inputs import images, latents, log_variance, pixels
from experiments.teaching.rubric import ONE_IMAGE, Probe, Task, Term, hinted, with_name, within
from experiments.teaching.tasks.variances import VARIANCES, placed
from ppl_models import PPCA
from ppl_models.random_numbers import forked_rng


def model(W: Tensor, mu: Tensor, s: Tensor) -> PPCA:
    """The project's PPCA at these tensors, which keep their gradients."""
    with forked_rng():
        ppca = PPCA(*W.shape)
    for name, value in (("W", W), ("mu", mu), ("log_sigma", s / 2)):
        delattr(ppca, name)
        setattr(ppca, name, value)
    return ppca


def right(x: Tensor, W: Tensor, mu: Tensor, s: Tensor) -> Tensor:
    return -2 * model(W, mu, s).marginal().log_prob(x).mean() - constant(mu)


def constant(mu: Tensor) -> float:
    return len(mu) * math.log(2 * math.pi)


def matrix(W: Tensor, variance: Tensor | float) -> Tensor:
    """W⊤W + sigma^2 I, ``[M, M]``."""
    return W.mT @ W + variance * torch.eye(W.shape[1], dtype=W.dtype)


def inverse(W: Tensor, variance: Tensor | float) -> Tensor:
    return torch.linalg.inv(matrix(W, variance))


def idle(W: Tensor) -> int:
    """How many dimensions W does not reach."""
    return W.shape[0] - W.shape[1]


def log_det(x: Tensor, W: Tensor, mu: Tensor, s: Tensor) -> Tensor:
    return matrix(W, s.exp()).logdet() + idle(W) * s


def whole(x: Tensor, W: Tensor, mu: Tensor, s: Tensor) -> Tensor:
    """The squared length of x - mu, averaged over images."""
    return (x - mu).square().sum(1).mean()


def explained(
    x: Tensor, W: Tensor, mu: Tensor, s: Tensor, *, inverse: Callable[..., Tensor] = inverse
) -> Tensor:
    """The part of it that W reaches, averaged over images."""
    d = (x - mu) @ W
    return (d @ inverse(W, s.exp()) * d).sum(1).mean()


def quadratic(*a: Tensor) -> Tensor:
    return (whole(*a) - explained(*a)) / a[3].exp()


def dense(x: Tensor, W: Tensor, mu: Tensor, variance: Tensor) -> Tensor:
    C = W @ W.mT + variance * torch.eye(len(W), dtype=W.dtype)
    d = x - mu
    return C.logdet() + (d @ torch.linalg.inv(C) * d).sum(1).mean()


CHANGES = [
    *VARIANCES,
    *hinted((torch.ones_like, "sigma^2 is 1 here: log_variance has no influence.")),
]
INVERSES = hinted(
    (matrix, "the matrix M stands where its inverse belongs."),
    lambda W, v: 1 / matrix(W, v),
    "1 / M inverts every entry separately: the inverse of a matrix is M.inverse().",
    lambda W, v: inverse(W, 0.0),
    "the matrix M is W⊤W alone: the prior's part, sigma^2 I, is missing.",
    (lambda W, v: inverse(W, 1.0), "the matrix M has I where it should have sigma^2 I."),
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
    lambda *a: log_det(*a) + whole(*a) / a[3].exp() - explained(*a),
    "in Woodbury's second term a factor is missing: which power of sigma^2 has C^-1?",
    lambda *a: log_det(*a) + whole(*a) - explained(*a) / a[3].exp(),
    "in Woodbury's first term, the division by sigma^2 is missing.",
    lambda *a: log_det(*a) + whole(*a) / a[3].exp() - explained(*a) / (2 * a[3]).exp(),
    "in Woodbury's second term sigma^2 divides once too often.",
    (lambda *a: log_det(*a) + whole(*a) - explained(*a), "the division by sigma^2 is missing."),
)


def by_determinant(log_det: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The cost with something else, of the matrix M, D - M and log sigma^2, for ``log |C|``."""
    return lambda *a: log_det(matrix(a[1], a[3].exp()), idle(a[1]), a[3]) + quadratic(*a)


MISTAKES = [
    *WHOLE,
    *within(by_determinant, DETERMINANTS),
    *within(lambda variance: lambda x, W, mu, s: dense(x, W, mu, variance(s)), CHANGES),
    *OTHERS,
    *placed(
        "in the quadratic form",
        lambda f: lambda *a: log_det(*a) + (whole(*a) - explained(*a, inverse=f)) / a[3].exp(),
        INVERSES,
    ),
    *placed(
        "in the quadratic form",
        lambda f: lambda *a: log_det(*a) + (whole(*a) - explained(*a)) / f(a[3]),
        VARIANCES,
    ),
]


def case() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    D = pixels()
    return torch.randn(images(), D), torch.randn(D, latents()), torch.randn(D), log_variance()


TERMS = [
    Term("log |M|", lambda *a: matrix(a[1], a[3].exp()).logdet()),
    Term("(D - M) log sigma^2", lambda *a: idle(a[1]) * a[3]),
    Term("the squared distance over sigma^2", lambda *a: whole(*a) / a[3].exp()),
    Term("Woodbury's second term", lambda *a: -explained(*a) / a[3].exp()),
    Term("the constant D log 2 pi", lambda *a: torch.tensor(constant(a[2])), 0.0),
]
PROBES = [
    Probe("log sigma^2 = 0", lambda x, W, mu, s: (x, W, mu, 0 * s), "how log sigma^2 enters"),
    Probe("mu = 0", lambda x, W, mu, s: (x, W, 0 * mu, s), "how mu enters"),
    Probe("W = 0", lambda x, W, mu, s: (x, 0 * W, mu, s), "how W enters"),
    Probe("M = 1", lambda x, W, mu, s: (x, W[:, :1], mu, s), "what is done with the M x M matrix"),
    Probe(ONE_IMAGE, lambda x, *a: (x[:1], *a), "how images are averaged"),
    Probe("x = mu", lambda x, W, mu, s: (0 * x + mu, W, mu, s), "how x - mu enters"),
]
TASK = Task(
    "ppca_cost",
    [right],
    case,
    MISTAKES,
    (1, 2, 3),
    shape="a single number",
    terms=TERMS,
    probes=PROBES,
    sizes=lambda x, W, mu, s: {"images": len(x), "pixels": len(W), "latents": W.shape[1]},
)


@with_name
def ppca_cost(answer: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
    """Check ``answer(x, W, mu, log_variance)``: ``log |C| + mean (x - mu)' C^-1 (x - mu)``.

    Right is -2 log p(x) - D log 2 pi with the closed form of the project's ``PPCA``.
    """
    examine(TASK, answer)
