"""Gradients through z alone, where one latent's posterior depends on another: by quadrature."""

import itertools
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from experiments.inference.objectives import OBJECTIVES
from experiments.inference.objectives.through_z import is_simple
from experiments.inference.traces import traces
from guides import GUIDES, Guide
from guides.guide import EffectGuide
from ppl_models import NVAE, Batch
from ppl_models.batch import data_plate
from ppl_models.program import Program

ROWS, STEPS = 3000, 8
"""Copies of one datum, and the number of draws of its gradient."""


class Chain(Program):
    """z0 ~ N(0, 1), z1 ~ N(a z0, s(z0)^2), x ~ N(b z1, 1/4)."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(0.8)), nn.Parameter(torch.tensor(1.5))

    def below(self, z0):
        return dist.Normal(self.a * z0, 0.7 + 0.2 * torch.tanh(z0))

    def forward(self, batch):
        with data_plate(batch):
            z0 = pyro.sample("z0", dist.Normal(torch.zeros(()), 1.0))
            z1 = pyro.sample("z1", self.below(z0))
            return pyro.sample("x", dist.Normal(self.b * z1, 0.5), obs=batch.x)

    def log_joint(self, z0, z1, x):
        return (
            dist.Normal(0.0, 1.0).log_prob(z0)
            + self.below(z0).log_prob(z1)
            + dist.Normal(self.b * z1, 0.5).log_prob(x)
        )


class Parts(nn.Module):
    def __init__(self, slope=0.6) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([0.3, -0.2, 0.4, slope, 0.1, -0.5]))

    def first(self, x):
        return dist.Normal(self.w[0] * x + self.w[1], 0.9)

    def second(self, x, z0):
        return dist.Normal(self.w[2] * x + self.w[3] * z0 + self.w[4], self.w[5].exp())


class Plain(Guide):
    """q(z0 | x) q(z1 | z0, x), written out."""

    def __init__(self, model, **options) -> None:
        super().__init__(model)
        self.parts = Parts(**options)

    def conditionals(self, x, z0):
        return self.parts.first(x), self.parts.second(x, z0)

    def forward(self, batch):
        with data_plate(batch):
            z0 = pyro.sample("z0", self.parts.first(batch.x))
            pyro.sample("z1", self.parts.second(batch.x, z0))


class Ladder(EffectGuide):
    """The model's prior of z1 times a message from x; q holds the model's parameters too."""

    def __init__(self, model) -> None:
        super().__init__(model)
        self.parts = Parts()

    def combined(self, x, prior):
        message = self.parts.second(x, 0.0)
        precision = message.scale**-2 + prior.scale**-2
        loc = (message.loc * message.scale**-2 + prior.loc * prior.scale**-2) / precision
        return dist.Normal(loc, precision**-0.5)

    def conditionals(self, x, z0):
        return self.parts.first(x), self.combined(x, self.model.below(z0))

    def get_posterior(self, name, prior):
        x = self.args_kwargs[0][0].x
        return self.parts.first(x) if name == "z0" else self.combined(x, prior)


class Heavy(Plain):
    """Students' t: no Gaussian, so that the second run is taken for independent latents too."""

    def conditionals(self, x, z0):
        return (dist.Laplace(self.parts.first(x).loc, 0.9), self.parts.second(x, 0.0))

    def forward(self, batch):
        with data_plate(batch):
            for name, q in zip(("z0", "z1"), self.conditionals(batch.x, None), strict=True):
                pyro.sample(name, q)


def by_quadrature(model, guide, x, particles):
    """The bound of ``particles`` draws, with its gradient, by Gauss and Hermite."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(24 if particles == 1 else 14)
    grid = torch.tensor(list(itertools.product(nodes, repeat=2 * particles)))
    weight = torch.tensor(list(itertools.product(weights, repeat=2 * particles))).prod(1)
    weight = weight / weight.sum()
    log_w = []
    for e0, e1 in grid.T.reshape(particles, 2, -1):
        q0, _ = guide.conditionals(x, e0)
        z0 = q0.loc + q0.scale * e0
        q1 = guide.conditionals(x, z0)[1]
        z1 = q1.loc + q1.scale * e1
        log_w.append(model.log_joint(z0, z1, x) - q0.log_prob(z0) - q1.log_prob(z1))
    return weight @ (torch.stack(log_w).logsumexp(0) - math.log(particles))


def gradients(loss, parameters):
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return torch.stack([torch.zeros(()) if g is None else g.sum() for g in found[:2]]), found[2]


@pytest.mark.parametrize(("objective", "particles"), [("stl", 1), ("dreg", 1), ("dreg", 2)])
@pytest.mark.parametrize("family", [Plain, Ladder])
def test_their_gradient_is_that_of_the_bound(family, objective, particles):
    model = Chain()
    guide, x = family(model), torch.tensor(1.3)
    parameters = [model.a, model.b, guide.parts.w]
    bound = by_quadrature(model, guide, x, particles)
    want = torch.cat(gradients(-bound, parameters))
    batch = Batch.of(x.expand(ROWS))
    drawn = []
    for _ in range(STEPS):
        loss = OBJECTIVES[objective](particles).differentiable_loss(model, guide, batch) / ROWS
        assert loss.item() == pytest.approx(-bound.item(), abs=0.15)
        drawn.append(torch.cat(gradients(loss, parameters)))
    found = torch.stack(drawn)
    error = found.std(0) / STEPS**0.5
    assert ((found.mean(0) - want).abs() < 6 * error + 1e-9).all()
    assert (error < 0.05 * want.norm()).all()  # narrow enough to see a path that is cut


@pytest.mark.parametrize("objective", ["stl", "dreg"])
def test_a_second_run_gives_what_constants_give_where_both_are_right(objective, monkeypatch):
    model = Chain()
    guide = Plain(model, slope=0.0)
    guide.parts.second = lambda x, _: dist.Normal(
        0.4 * x + guide.parts.w[4], guide.parts.w[5].exp()
    )
    batch = Batch(torch.randn(5), torch.arange(5), 20)

    def step():
        torch.manual_seed(0)
        loss = OBJECTIVES[objective](3).differentiable_loss(model, guide, batch)
        return loss, *gradients(loss, [model.a, model.b, guide.parts.w])

    _, trace = traces(model, guide, batch, 3)
    assert is_simple(guide, trace, batch)
    simple = step()
    for name in ("elbo", "iwae"):
        monkeypatch.setattr(f"experiments.inference.objectives.{name}.is_simple", lambda *_: False)
    for found, want in zip(step(), simple, strict=True):
        torch.testing.assert_close(found, want)


def test_what_is_simple_is_decided_by_dependence():
    model, batch = Chain(), Batch.of(torch.randn(4))
    for guide, simple in ((Plain(model), False), (Ladder(model), False), (Heavy(model), False)):
        assert is_simple(guide, traces(model, guide, batch)[1], batch) is simple
    with torch.no_grad():  # as in an evaluation, which may come first
        guide = Plain(model)
        assert not is_simple(guide, traces(model, guide, batch)[1], batch)
    rows = GUIDES["mean_field"](model).for_data(4)
    assert is_simple(rows, traces(model, rows, batch)[1], batch)


@pytest.mark.parametrize("name", ["stl", "dreg"])
def test_a_hierarchy_of_groups(name):
    model = NVAE((1, 8, 8), (1, 1), latents=2, channels=4, blocks=1, cells_per_block=1)
    guide = GUIDES["top_down"](model, cells_per_block=1)
    batch = Batch.of(torch.rand(3, 1, 8, 8).round())
    torch.manual_seed(0)
    loss = OBJECTIVES[name](2).differentiable_loss(model, guide, batch)
    torch.manual_seed(0)
    plain = OBJECTIVES["elbo" if name == "stl" else "iwae"](2)
    torch.testing.assert_close(loss, plain.differentiable_loss(model, guide, batch))
    loss.backward()
    assert all(p.grad.isfinite().all() for p in guide.parameters())
