"""Latents that are not free on the real line: positive, in an interval, on a simplex, angles."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from experiments.evaluation.ais import annealed_bound, sandwich
from experiments.inference.traces import traces
from guides import Guide
from ppl_models import Batch
from ppl_models.batch import data_plate
from ppl_models.coordinates import coordinates, support_of
from ppl_models.program import Program

softplus, logsigmoid = torch.nn.functional.softplus, torch.nn.functional.logsigmoid


class Story(Program):
    """z ~ prior, x ~ N(A z, 1)."""

    def __init__(self, prior, dim) -> None:
        super().__init__()
        self.prior, self.A = prior, nn.Parameter(0.7 * torch.randn(4, dim))

    def likelihood(self, z):
        return dist.Normal(z @ self.A.mT, 1.0).to_event(1)

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", self.prior())
            return pyro.sample("x", self.likelihood(z), obs=batch.x)

    @torch.no_grad()
    def evidence(self, x, grid):
        """log p(x), by the trapezoidal rule on a grid: points, and log of their volume."""
        z, volume = grid
        log_p = self.prior().log_prob(z) + volume
        return (log_p + self.likelihood(z).log_prob(x[:, None])).logsumexp(1)


class Encoded(Guide):
    def __init__(self, model, q, numbers) -> None:
        super().__init__(model)
        self.encoder, self.q = nn.Linear(4, numbers), q

    def forward(self, batch):
        with data_plate(batch):
            return pyro.sample("z", self.q(self.encoder(batch.x)))


def two(e):
    return e[..., :2], softplus(e[..., 2:]) + 0.5


PRIORS = {
    "dirichlet": (
        lambda: dist.Dirichlet(torch.ones(3)),
        3,
        lambda e: dist.Dirichlet(softplus(e) + 0.5),
        3,
    ),
    "gamma": (
        lambda: dist.Gamma(torch.full((2,), 2.0), 1.0).to_event(1),
        2,
        lambda e: dist.Gamma(two(e)[1], two(e)[1]).to_event(1),
        4,
    ),
    "lognormal": (
        lambda: dist.LogNormal(torch.zeros(2), 1.0).to_event(1),
        2,
        lambda e: dist.LogNormal(*two(e)).to_event(1),
        4,
    ),
    "uniform": (
        lambda: dist.Uniform(torch.zeros(2), 1.0).to_event(1),
        2,
        lambda e: dist.Beta(two(e)[1], two(e)[1]).to_event(1),
        4,
    ),
    "vonmises": (
        lambda: dist.VonMises(torch.zeros(2), 1.0).to_event(1),
        2,
        lambda e: dist.VonMises(*two(e)).to_event(1),
        4,
    ),
    "mixture": (
        lambda: dist.MixtureSameFamily(
            dist.Categorical(torch.ones(2)),
            dist.Normal(torch.tensor([[-1.0, 0.0], [1.0, 0.5]]), 0.4).to_event(1),
        ),
        2,
        lambda e: dist.Normal(*two(e)).to_event(1),
        4,
    ),
}


def square(low, high, number=300):
    """Points ``[n^2, 2]``, and log of the volume of each."""
    u = torch.linspace(low, high, number)
    return torch.cartesian_prod(u, u), 2 * (u[1] - u[0]).log()


def positive():
    u, volume = square(-7.0, 4.0)
    return u.exp(), volume + u.sum(1)


def unit_square():
    u, volume = square(-12.0, 12.0)
    return u.sigmoid(), volume + (logsigmoid(u) + logsigmoid(-u)).sum(1)


def simplex():
    """Sticks broken at the points of the unit square."""
    at, volume = unit_square()
    first, second = at.T
    rest = 1 - first
    z = torch.stack([first, rest * second, rest * (1 - second)], 1)
    return z / z.sum(1, keepdim=True), volume + rest.log()


GRIDS = {
    "dirichlet": simplex,
    "gamma": positive,
    "lognormal": positive,
    "uniform": unit_square,
    "vonmises": lambda: square(-math.pi, math.pi),
    "mixture": lambda: square(-5.0, 5.0),
}


def pair(name):
    torch.manual_seed(0)
    prior, dim, q, numbers = PRIORS[name]
    model = Story(prior, dim)
    with torch.no_grad():
        x = model(Batch.draw(12))
    return model, Encoded(model, q, numbers), x


@pytest.mark.parametrize("start", ["guide", "prior"])
@pytest.mark.parametrize("name", PRIORS)
def test_annealing_finds_the_evidence(name, start):
    model, guide, x = pair(name)
    chains = annealed_bound(model, guide, Batch.of(x), 40, 30, 5, start)
    # a weight is p(x) on average, however well the chains mix
    ratio = (chains.log_weights - model.evidence(x, GRIDS[name]())).exp()
    error = ratio.std(0) / len(ratio) ** 0.5
    assert ((ratio.mean(0) - 1).abs() < 5 * error).all()
    assert error.median() < 0.25


def test_a_sandwich_of_positive_latents_closes():
    model, guide, _ = pair("gamma")
    width = sandwich(model, guide, rows=20, chains=8, steps=80, leapfrog=5)
    assert -0.1 < width.mean() < 0.6


@pytest.mark.parametrize("name", PRIORS)
def test_coordinates_reach_every_draw_and_lead_back(name):
    prior = PRIORS[name][0]()
    z = prior.sample((100,))
    transform = coordinates(prior)
    torch.testing.assert_close(transform(transform.inv(z)), z)
    far = transform(5 * torch.randn(transform.inverse_shape(z.shape)))
    assert support_of(prior).check(far).all()


@pytest.mark.parametrize(
    "prior",
    [
        lambda: dist.ProjectedNormal(torch.zeros(3)),
        lambda: dist.Poisson(torch.ones(3)).to_event(1),
    ],
)
def test_what_has_no_coordinates_is_refused_by_name(prior):
    model = Story(prior, 3)
    guide = Encoded(model, lambda e: prior().expand(e.shape[:-1]), 1)
    x = torch.randn(3, 4)
    with pytest.raises(ValueError, match=r"'z'.*has none"):
        annealed_bound(model, guide, Batch.of(x), 2, 2, 1)


def test_a_guide_on_the_sphere_counts_what_pyro_counts():
    prior = dist.ProjectedNormal(torch.zeros(3))
    model = Story(lambda: prior, 3)
    guide = Encoded(model, dist.ProjectedNormal, 3)
    batch = Batch.of(torch.randn(5, 4))
    torch.manual_seed(1)
    p, q = traces(model, guide, batch)
    torch.manual_seed(1)
    assert p.log_prob_sum() - q.log_prob_sum() == -pyro.infer.Trace_ELBO().loss(
        model, guide, batch
    )
