"""The check of the evidence lower bound, against Pyro's own (lab 3)."""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor, nn

from experiments.teaching.examine import examine
from experiments.teaching.inputs import log_variance, network, pixels
from experiments.teaching.rubric import ONE_IMAGE, Probe, Task, Term, hinted, with_name, within
from experiments.teaching.tasks.gaussians import (
    LOG_2_PI,
    SCALED,
    gaussians,
    latent_kls,
    right_draw,
    right_kl,
)
from experiments.teaching.tasks.likelihoods import DENSITIES, pixelwise, rough_pi, squares
from experiments.teaching.tasks.variances import placed

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


def by_pyro(objective: type[Trace_ELBO]) -> Answer:
    """The bound, per image, that Pyro takes of the lab's model and guide with that noise."""

    def elbo(
        x: Tensor, loc: Tensor, v: Tensor, noise: Tensor, decoder: nn.Module, s: Tensor
    ) -> Tensor:
        def model() -> None:
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros_like(loc), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(decoder(z), (s / 2).exp()).to_event(1), obs=x)

        def guide() -> None:
            with pyro.plate("data", len(x)):
                pyro.sample("z", Fixed(loc, (v / 2).exp(), noise).to_event(1))

        with pyro.poutine.block():
            return -objective().differentiable_loss(model, guide) / len(x)

    return elbo


def case() -> tuple:
    D = pixels()
    loc, v = gaussians()
    noise, decoder = torch.randn_like(loc), network(loc.shape[1], D)
    return torch.randn(len(loc), D), loc, v, noise, decoder, log_variance()


def fit_of(x: Tensor, mean: Tensor, s: Tensor) -> Tensor:
    """log p(x | z) of every image."""
    return pixelwise(x, mean, (s / 2).exp()).sum(1)


def bound(
    x: Tensor, m: Tensor, v: Tensor, e: Tensor, f: nn.Module, s: Tensor, *, beta: float = 1.0
) -> Tensor:
    """The bound of every image, with a factor on the KL."""
    return fit_of(x, f(right_draw(m, v, e)), s) - beta * right_kl(m, v)


def by_entropy(x: Tensor, m: Tensor, v: Tensor, e: Tensor, f: nn.Module, s: Tensor) -> Tensor:
    """The bound with log p(z) at the draw and the entropy of q in closed form."""
    z, q = right_draw(m, v, e), dist.Normal(m, (v / 2).exp())
    log_prior = dist.Normal(0.0, 1.0).log_prob(z)
    return (fit_of(x, f(z), s) + (log_prior + q.entropy()).sum(1)).mean()


def by_draw(z: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Answer:
    """The bound at another draw."""
    return lambda x, m, v, e, f, s: (fit_of(x, f(z(m, v, e)), s) - right_kl(m, v)).mean()


def by_kl(kl: Callable[[Tensor, Tensor], Tensor]) -> Answer:
    """The bound with something else for the mean of the KL."""
    return lambda x, m, v, e, f, s: fit_of(x, f(right_draw(m, v, e)), s).mean() - kl(m, v)


def by_fit(fit: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Answer:
    """The bound with something else for log p(x | z)."""
    return lambda x, m, v, e, f, s: (fit(x, f(right_draw(m, v, e)), s) - right_kl(m, v)).mean()


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
    (lambda *a: -right_kl(*a[1:3]).mean(), "the KL alone is there: where is log p(x | z)?"),
)
KLS = hinted(
    (lambda m, v: latent_kls(m, v).mean(), "the KL is averaged over the latents: sum them."),
    lambda m, v: right_kl(m, v).sum(),
    "the KL is summed over images, the other term is averaged: treat both alike.",
    lambda m, v: right_kl(m, v).mean() / len(m),
    "the KL is divided by the number of images twice.",
    (lambda m, v: -right_kl(m, v).mean(), "the KL has the wrong sign."),
    lambda m, v: right_kl(-m * (-v / 2).exp(), -v).mean(),
    "the KL is the other way round, from the prior to q.",
    (lambda m, v: right_kl(m, 2 * v).mean(), "in the KL, log sigma^2 is taken for log sigma."),
    (lambda m, v: right_kl(m, v / 2).mean(), "in the KL, sigma is used as variance."),
    (lambda m, v: right_kl(m, -v).mean(), "in the KL, log sigma^2 has the wrong sign."),
)
OTHERS = hinted(
    (by_draw(lambda m, v, e: e), "the decoder gets the noise: it takes a draw of q."),
    (by_draw(lambda m, v, e: (v / 2).exp() * e), "in the draw, the mean of q is missing."),
    lambda x, m, v, e, f, s: fit_of(x, f(right_draw(m, v, e)), s).sum() - right_kl(m, v).mean(),
    "log p(x | z) is summed over images, the KL is averaged: treat both alike.",
    lambda x, m, v, e, f, s: (
        fit_of(x, f(right_draw(m, v, e)), s).mean()
        + dist.Normal(0.0, 1.0).log_prob(right_draw(m, v, e)).sum(1).mean()
    ),
    "this is log p(x, z) at the draw: log q(z | x) has to be subtracted.",
)
MISTAKES = [
    *WHOLE,
    *within(by_kl, KLS),
    *placed("in log p(x | z)", by_fit, DENSITIES),
    *placed("in the draw", by_draw, SCALED),
    *OTHERS,
]
TERMS = [
    Term("the constant D/2 log 2 pi", lambda *a: torch.tensor(-a[0].shape[1] * LOG_2_PI / 2)),
    Term("D/2 log sigma^2 of the pixels", lambda *a: -a[0].shape[1] / 2 * a[5]),
    Term(
        "the squared distance over 2 sigma^2",
        lambda x, m, v, e, f, s: -squares(x, f(right_draw(m, v, e))).mean() / 2 / s.exp(),
    ),
    Term("the KL's term with sigma^2", lambda *a: -0.5 * a[2].exp().sum(1).mean()),
    Term("the KL's term with mu^2", lambda *a: -0.5 * a[1].square().sum(1).mean()),
    Term("the KL's 1 of every latent", lambda *a: torch.tensor(a[1].shape[1] / 2)),
    Term("the KL's term with log sigma^2", lambda *a: 0.5 * a[2].sum(1).mean()),
]
PROBES = [
    Probe(
        "log sigma^2 of q = 0",
        lambda x, m, v, e, f, s: (x, m, 0 * v, e, f, s),
        "how log_variance enters (the draw and the KL)",
    ),
    Probe("mu = 0", lambda x, m, *rest: (x, 0 * m, *rest), "how loc enters (the draw, the KL)"),
    Probe("the noise is 0", lambda x, m, v, e, f, s: (x, m, v, 0 * e, f, s), "the draw"),
    Probe(
        "log sigma^2 of the pixels = 0",
        lambda x, m, v, e, f, s: (x, m, v, e, f, 0 * s),
        "how log_pixel_variance enters",
    ),
    Probe(
        ONE_IMAGE,
        lambda x, m, v, e, f, s: (x[:1], m[:1], v[:1], e[:1], f, s),
        "how images are averaged",
    ),
]


@with_name
def elbo(answer: Answer) -> None:
    """Check ``answer(x, loc, log_variance, noise, decoder, log_pixel_variance)``.

    Right is the mean over images of the bound [nats] with that noise, the KL in closed form (as
    ``TraceMeanField_ELBO`` has it), at the draw (as ``Trace_ELBO`` has it), or with the entropy
    of q alone in closed form.
    """
    task = Task(
        "elbo",
        [by_pyro(TraceMeanField_ELBO), by_pyro(Trace_ELBO), by_entropy],
        case,
        MISTAKES,
        (1, 2, 5),
        shape="a single number",
        near=rough_pi(lambda *a: bound(*a).mean()),
        terms=TERMS,
        probes=PROBES,
        sizes=lambda x, m, *_: {"images": len(x), "pixels": x.shape[1], "latents": m.shape[1]},
    )
    examine(task, answer)
