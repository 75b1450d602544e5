"""The check of probabilistic PCA's posterior (lab 2)."""

from collections.abc import Callable

import torch
from torch import Tensor

from experiments.teaching.examine import examine
from experiments.teaching.rubric import hinted, with_name, within
from experiments.teaching.tasks.costs import CHANGES, INVERSES, TASK, inverse, matrix, model
from experiments.teaching.tasks.variances import VARIANCES, placed

Two = tuple[Tensor, Tensor]


def right(x: Tensor, W: Tensor, mu: Tensor, s: Tensor) -> Two:
    found = model(W, mu, s).posterior(x)
    return found.mean, found.covariance_matrix[0]  # the same for every image


def mean(x: Tensor, W: Tensor, mu: Tensor, s: Tensor) -> Tensor:
    return (x - mu) @ W @ inverse(W, s.exp())


MEANS = hinted(
    (lambda x, W, mu, s: mean(x, W, 0 * mu, s), "x is not centred in the mean: subtract mu."),
    (lambda x, W, mu, s: mean(x, W, -mu, s), "mu is added to x: subtract it."),
    (lambda *a: -mean(*a), "the mean has the wrong sign."),
    lambda x, W, mu, s: mean(x, W, x.mean(0), s),
    "x is centred with the batch's mean: the parameter is mu.",
    lambda *a: mean(*a) / a[3].exp(),
    "the mean is divided by sigma^2, which is not part of it with this matrix M.",
    lambda *a: mean(*a) * a[3].exp(),
    "the mean is multiplied by sigma^2: that belongs to the covariance alone.",
    lambda x, W, mu, s: (x - mu) @ W,
    "the mean lacks the inverse of the matrix M: this is W⊤(x - mu).",
    (lambda *a: mean(*a).mT, "the mean is transposed: one row per image, [B, M]."),
    (lambda *a: mean(*a)[:1], "the mean of one image is returned: one row per image, [B, M]."),
)
COVARIANCES = hinted(
    lambda x, W, mu, s: inverse(W, s.exp()),
    "sigma^2 is missing in the covariance: as sigma goes to 0 it must become zero.",
    lambda x, W, mu, s: matrix(W, s.exp()) / s.exp(),
    "this is the precision, the inverse of the covariance.",
    lambda x, W, mu, s: matrix(W, s.exp()),
    "this is the matrix M: how does the covariance depend on it?",
    lambda x, W, mu, s: torch.linalg.cholesky(right(x, W, mu, s)[1]),
    "this is the Cholesky factor of the covariance, not the covariance.",
    lambda *a: right(*a)[1].diagonal(),
    "only the diagonal of the covariance is returned: its entries off it are not zero.",
    lambda *a: right(*a)[1].diagonal().diag(),
    "only the diagonal of the covariance is kept: its entries off it are not zero.",
    lambda *a: right(*a)[1].expand(len(a[0]), -1, -1),
    "one covariance per image is returned: it is the same for all, [M, M].",
    lambda x, W, mu, s: W @ W.mT + s.exp() * torch.eye(len(W), dtype=W.dtype),
    "this is C, the covariance of x: that of z given x is [M, M].",
    (lambda *a: mean(*a), "the mean stands in the place of the covariance too."),
)
IN_COVARIANCE = [
    *placed("in the covariance", lambda f: lambda x, W, mu, s: s.exp() * f(W, s.exp()), INVERSES),
    *placed(
        "in the factor of the covariance",
        lambda f: lambda x, W, mu, s: f(s) * inverse(W, s.exp()),
        VARIANCES,
    ),
    *within(lambda f: lambda x, W, mu, s: f(s) * inverse(W, f(s)), CHANGES),
]
MISTAKES = [
    *MEANS,
    *placed("in the mean", lambda f: lambda x, W, mu, s: (x - mu) @ W @ f(W, s.exp()), INVERSES),
    *within(lambda f: lambda x, W, mu, s: (x - mu) @ W @ inverse(W, f(s)), CHANGES),
    *(mistake._replace(part=1) for mistake in [*COVARIANCES, *IN_COVARIANCE]),
]


@with_name
def posterior(answer: Callable[[Tensor, Tensor, Tensor, Tensor], Two]) -> None:
    """Check ``answer(x, W, mu, log_variance)``: the mean ``[B, M]``, the covariance ``[M, M]``."""
    task = TASK._replace(
        name="posterior",
        right=[right],
        mistakes=MISTAKES,
        parts=("the mean", "the covariance"),
        shape="the mean has a row per image, the covariance is one matrix of latents",
        terms=(),
    )
    examine(task, answer)
