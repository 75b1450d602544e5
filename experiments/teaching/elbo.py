"""The check of the evidence lower bound, against Pyro's own (lab 3)."""

import math
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor, nn

from experiments.teaching.checking import Mistake, Task, recorded
from experiments.teaching.examining import examine

__all__ = ["elbo"]

Answer = Callable[[Tensor, Tensor, Tensor, Tensor, nn.Module, Tensor], Tensor]


class Fixed(dist.Normal):
    """A normal whose draw is made of given noise: what makes Pyro's bound a function."""

    def __init__(self, loc: Tensor, scale: Tensor, noise: Tensor) -> None:
        super().__init__(loc, scale)
        self.noise = noise

    def expand(self, batch_shape: Any, _instance: None = None) -> "Fixed":
        return Fixed(*(part.expand(batch_shape) for part in (self.loc, self.scale, self.noise)))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.loc + self.scale * self.noise


def by_pyro(bound: type[Trace_ELBO]) -> Answer:
    """The bound, per image, that Pyro takes of the lab's model and guide with that noise."""

    def elbo(
        x: Tensor, loc: Tensor, log_variance: Tensor, noise: Tensor, decoder: nn.Module, s: Tensor
    ) -> Tensor:
        def model() -> None:
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros_like(loc), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(decoder(z), (s / 2).exp()).to_event(1), obs=x)

        def guide() -> None:
            with pyro.plate("data", len(x)):
                pyro.sample("z", Fixed(loc, (log_variance / 2).exp(), noise).to_event(1))

        with pyro.poutine.block():
            return -bound().differentiable_loss(model, guide) / len(x)

    return elbo


def case() -> tuple:
    rows = int(torch.randint(6, 10, ()))
    decoder = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5)).requires_grad_(False)
    loc, s, noise = torch.randn(rows, 3), 0.3 - torch.rand(rows, 3), torch.randn(rows, 3)
    return torch.randn(rows, 5), loc, s, noise, decoder, -0.5 - torch.rand(())


right = by_pyro(TraceMeanField_ELBO)


def kl_of(loc: Tensor, log_variance: Tensor) -> Tensor:
    return 0.5 * (log_variance.exp() + loc.square() - 1 - log_variance).sum(1)


def fit_of(x: Tensor, z: Tensor, decoder: nn.Module, s: Tensor) -> Tensor:
    return dist.Normal(decoder(z), (s / 2).exp()).log_prob(x).sum(1)


def of(z: Callable[[Tensor, Tensor, Tensor], Tensor], beta: float = 1.0) -> Answer:
    """The bound with another draw, or another factor on the KL."""
    return lambda x, m, v, e, f, s: (fit_of(x, z(m, v, e), f, s) - beta * kl_of(m, v)).mean()


def drawn(loc: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    return loc + (log_variance / 2).exp() * noise


def constant(x: Tensor, s: Tensor) -> Tensor:
    """What the density of a pixel has besides its squared distance, over all pixels."""
    return x.shape[1] * (0.5 * math.log(2 * math.pi) + s / 2)


MISTAKES: list[tuple[Callable[..., Tensor], str]] = [
    (lambda *a: -right(*a), "its sign is wrong: this is the loss; the bound is maximised."),
    (lambda *a: right(*a) * len(a[0]), "it is summed over images: average them."),
    (of(drawn, beta=0.0), "the KL is missing: nothing holds q near the prior."),
    (of(drawn, beta=-1.0), "the KL has the wrong sign: it is the price of leaving the prior."),
    (of(drawn, beta=0.5), "the KL counts half: is its 1/2 taken twice?"),
    (of(drawn, beta=2.0), "the KL counts twice: is its 1/2 missing?"),
    (
        lambda x, m, v, e, f, s: (
            fit_of(x, drawn(m, v, e), f, s) - kl_of(m, v) / m.shape[1]
        ).mean(),
        "the KL is averaged over the latents: sum them.",
    ),
    (
        lambda x, m, v, e, f, s: fit_of(x, drawn(m, v, e), f, s).mean() - kl_of(m, v).sum(),
        "the KL is summed over images, the other term is averaged: treat both alike.",
    ),
    (
        lambda x, m, v, e, f, s: (
            fit_of(x, drawn(m, v, e), f, s) / x.shape[1] - kl_of(m, v)
        ).mean(),
        "the log-likelihood is averaged over pixels: sum them, or the KL weighs too much.",
    ),
    (
        lambda x, m, v, e, f, s: (-(x - f(drawn(m, v, e))).square().sum(1) - kl_of(m, v)).mean(),
        "the squared distance is no log-density: sigma and the 1/2 are missing.",
    ),
    (
        lambda x, m, v, e, f, s: (
            (fit_of(x, drawn(m, v, e), f, s) - kl_of(m, v)).mean() + constant(x, s)
        ),
        "the normalising constant of p(x | z), with log sigma in it, is missing.",
    ),
    (
        lambda x, m, v, e, f, s: right(x, m, v, e, f, s) + constant(x, torch.zeros_like(s)),
        "the constant D/2 log 2 pi is missing.",
    ),
    (
        of(lambda m, v, e: m + v.exp() * e),
        "the noise is multiplied by the variance: it takes the standard deviation.",
    ),
    (of(lambda m, v, e: m + v * e), "the noise is multiplied by the log variance."),
    (of(lambda m, v, e: m), "the decoder gets the mean of q: it takes a draw of q."),
    (of(lambda m, v, e: e), "the decoder gets a draw of the prior: it takes a draw of q."),
    (
        lambda x, m, v, e, f, s: (fit_of(x, drawn(m, v, e), f, 2 * s) - kl_of(m, v)).mean(),
        "the variance is used as standard deviation of the pixels: dist.Normal takes sigma.",
    ),
    (
        lambda x, m, v, e, f, s: fit_of(x, drawn(m, v, e), f, s) - kl_of(m, v),
        "one number per image is returned: average them.",
    ),
]


@recorded
def elbo(answer: Answer) -> None:
    """Check ``answer(x, loc, log_variance, noise, decoder, log_pixel_variance)``.

    Right is the mean over images of the bound [nats] with that noise, the KL in closed form (as
    ``TraceMeanField_ELBO`` has it) or at the draw (as ``Trace_ELBO`` has it).
    """
    bounds = [right, by_pyro(Trace_ELBO)]
    mistakes = [Mistake(*pair) for pair in MISTAKES]
    examine(Task("elbo", bounds, case, mistakes, (1, 2, 5), shape="a single number"), answer)
