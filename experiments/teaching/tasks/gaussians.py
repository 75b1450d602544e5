"""The checks of the KL of a Gaussian and of a draw of it (lab 3)."""

from collections.abc import Callable

import torch
from torch import Tensor

from experiments.teaching.checking import ONE_IMAGE, Probe, Task, Term, with_name
from experiments.teaching.examining import examine
from experiments.teaching.inputs import images, latents
from experiments.teaching.mistakes import draws
from experiments.teaching.mistakes.draws import right_draw
from experiments.teaching.mistakes.gaussians import MISTAKES, right_kl


def gaussians() -> tuple[Tensor, Tensor]:
    """Means and log variances, ``[B, M]`` each, of both signs."""
    B, M = images(), latents()
    return torch.randn(B, M), 1.6 * torch.rand(B, M) - 1.0


TERMS = [
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
        [lambda m, s: right_kl(m, s).sum(1)],
        gaussians,
        MISTAKES,
        (0, 1),
        shape="one value per image",
        terms=TERMS,
        probes=PROBES,
        sizes=lambda m, s: {"latents": m.shape[1], "images": len(m)},
    )
    examine(task, answer)


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
        draws.MISTAKES,
        (0, 1),
        shape="that of loc",
        terms=DRAW_TERMS,
        probes=[*PROBES, still],
        sizes=lambda m, s, e: {"latents": m.shape[1], "images": len(m)},
    )
    examine(task, answer)
