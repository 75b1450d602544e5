"""The check of the evidence lower bound, against Pyro's own (lab 3)."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor, nn

from experiments.teaching.checking import ONE_IMAGE, Probe, Task, Term, with_name
from experiments.teaching.examining import examine
from experiments.teaching.inputs import log_variance, network, pixels
from experiments.teaching.mistakes.draws import right_draw
from experiments.teaching.mistakes.elbo import MISTAKES, NEAR, Answer, constant, squares
from experiments.teaching.tasks.gaussians import gaussians


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
            return -bound().differentiable_loss(model, guide) / len(x)

    return elbo


def case() -> tuple:
    D = pixels()
    loc, v = gaussians()
    noise, decoder = torch.randn_like(loc), network(loc.shape[1], D)
    return torch.randn(len(loc), D), loc, v, noise, decoder, log_variance()


def _decoded(*a: Any) -> Tensor:
    return squares(a[0], a[4](right_draw(*a[1:4]))).mean()


TERMS = [
    Term("the constant D/2 log 2 pi", lambda *a: -constant(a[0], 0 * a[5])),
    Term("D/2 log sigma^2 of the pixels", lambda *a: -a[0].shape[1] / 2 * a[5]),
    Term("the squared distance over 2 sigma^2", lambda *a: -_decoded(*a) / 2 / a[5].exp()),
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
    ``TraceMeanField_ELBO`` has it) or at the draw (as ``Trace_ELBO`` has it).
    """
    task = Task(
        "elbo",
        [by_pyro(TraceMeanField_ELBO), by_pyro(Trace_ELBO)],
        case,
        MISTAKES,
        (1, 2, 5),
        shape="a single number",
        near=NEAR,
        terms=TERMS,
        probes=PROBES,
        sizes=lambda x, m, *_: {"images": len(x), "pixels": x.shape[1], "latents": m.shape[1]},
    )
    examine(task, answer)
