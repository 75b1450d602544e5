"""The check of probabilistic PCA's cost (lab 2)."""

from collections.abc import Callable

import torch
from torch import Tensor

from experiments.teaching.checking import ONE_IMAGE, Probe, Task, Term, with_name
from experiments.teaching.examining import examine
from experiments.teaching.inputs import images, latents, log_variance, pixels
from experiments.teaching.mistakes.costs import MISTAKES
from experiments.teaching.mistakes.evidence import constant, explained, idle, matrix, right, whole

Answer = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def case() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    D = pixels()
    return torch.randn(images(), D), torch.randn(D, latents()), torch.randn(D), log_variance()


def sizes(x: Tensor, W: Tensor, mu: Tensor, s: Tensor) -> dict[str, int]:
    return {"images": len(x), "pixels": len(W), "latents": W.shape[1]}


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


@with_name
def ppca_cost(answer: Answer) -> None:
    """Check ``answer(x, W, mu, log_variance)``: ``log |C| + mean (x - mu)' C^-1 (x - mu)``.

    Right is -2 log p(x) - D log 2 pi with the closed form of the project's ``PPCA``.
    """
    task = Task(
        "ppca_cost",
        [right],
        case,
        MISTAKES,
        (1, 2, 3),
        shape="a single number",
        terms=TERMS,
        probes=PROBES,
        sizes=sizes,
    )
    examine(task, answer)
