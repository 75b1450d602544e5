"""Guides over models of users: names, bounds, labels and integers of any kind."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from experiments import SVI
from experiments.data import as_data
from experiments.evaluation.bounds import encode
from experiments.evaluation.metrics import evaluate
from experiments.inference.frozen import fit_rows
from guides import GUIDES, allowed_guides
from ppl_models import Batch, Program, data_plate
from ppl_models.sites import describe
from tests.shared.linear_pair import D, N, X
from tests.shared.program_kinds import SemiSupervised


class Named(Program):
    def __init__(self, *names):
        super().__init__()
        self.names, self.b = names, nn.Parameter(torch.zeros(D))

    def forward(self, batch):
        with data_plate(batch):
            loc = self.b
            for name in self.names:
                loc = loc + pyro.sample(name, dist.Normal(torch.zeros(D), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=batch.x)


@pytest.mark.parametrize("name", ["a.z", "type", "forward", "values", "z"])
@pytest.mark.parametrize("kind", ["point", "mean_field"])
def test_rows_by_any_name(name, kind):
    model = Named(name).requires_grad_(False)
    assert kind in allowed_guides(model)
    guide = GUIDES[kind](model, size=N, local_steps=300)
    fit_rows(model, guide, as_data(X).like(model))
    found = encode(guide, Batch.of(X), model)[name]
    torch.testing.assert_close(found, X / 2, atol=0.05, rtol=0)  # p(z | x) = N(x / 2, 1/2)


@pytest.mark.parametrize("names", [("a.z", "b.z"), ("type", "z")])
def test_bottom_up_by_any_name(names):
    model = Named(*names)
    assert "bottom_up" in allowed_guides(model)
    guide = GUIDES["bottom_up"](model, hidden_dims=(4,))
    assert encode(guide, Batch.of(X), model).keys() == set(names)


PRIORS = {
    "scalar buffers": lambda m: dist.Uniform(m.low, m.high).expand([D]).to_event(1),
    "one scalar": lambda m: dist.Uniform(m.low, torch.ones(D)).to_event(1),
    "one row": lambda m: dist.Uniform(-torch.ones(1, D), torch.ones(1, D)).to_event(1),
    "affine beta": lambda m: dist.AffineBeta(torch.ones(D), torch.ones(D), -1.0, 2.0).to_event(1),
}


class Bounded(Program):
    """z ~ Uniform(-1, 1)^D in several ways, x ~ N(z, 1/4)."""

    def __init__(self, name):
        super().__init__()
        self.of, self.b = PRIORS[name], nn.Parameter(torch.zeros(D))
        self.register_buffer("low", torch.tensor(-1.0))
        self.register_buffer("high", torch.tensor(1.0))

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", self.of(self))
            return pyro.sample("x", dist.Normal(z + self.b, 0.5).to_event(1), obs=batch.x)


@pytest.mark.parametrize("name", PRIORS)
def test_bounds_that_broadcast(name):
    model, x = Bounded(name).requires_grad_(False), X / 4
    assert "amortized" in allowed_guides(model)
    guide = GUIDES["amortized"](model, hidden_dims=(4,))
    found = evaluate(model, guide, x, 5000)["iw_bound"]
    phi = dist.Normal(x, 0.5)
    share = phi.cdf(torch.ones(())) - phi.cdf(-torch.ones(()))
    assert found == pytest.approx((share / 2).log().sum(1).mean().item(), abs=0.1)


class Matrix(Bounded):
    """Columns of a [2, 3] latent with the bounds 1, 1, 5."""

    def forward(self, batch):
        high = torch.tensor([1.0, 1.0, 5.0])
        with data_plate(batch):
            z = pyro.sample("z", dist.Uniform(torch.zeros(3), high).expand([2, 3]).to_event(2))
            loc = z[..., 0, 2:] * torch.ones(D)
            return pyro.sample("x", dist.Normal(loc, 0.5).to_event(1), obs=batch.x)


def test_bounds_by_column():
    model = Matrix("one row")
    assert "mean_field" in allowed_guides(model)
    z = GUIDES["mean_field"](model).coordinates["z"].at(torch.full((2, 3), 50.0))
    torch.testing.assert_close(z, torch.tensor([1.0, 1.0, 5.0]).expand(2, 3))


ROWS = 12


class Capped(Program):
    """z ~ Uniform(0, cap), x ~ ROWS(z, 0.1)."""

    def __init__(self):
        super().__init__()
        self.b = nn.Parameter(torch.zeros(1))

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Uniform(0.0, batch.given["cap"].unsqueeze(-1)).to_event(1))
            return pyro.sample("x", dist.Normal(z + self.b, 0.1).to_event(1), obs=batch.x)


def capped():
    cap = torch.tensor([2.0, 2.0] + [10.0] * (ROWS - 2))
    model, data = Capped(), as_data(0.8 * cap.unsqueeze(-1), given={"cap": cap})
    describe(model, data)
    return model, data.like(model)


def test_it_is_not_offered():
    assert allowed_guides(capped()[0]) == ("prior", "top_down")


def test_the_guide_is_refused():
    with pytest.raises(ValueError, match="depends on the datum"):
        GUIDES["mean_field"](capped()[0])


def test_labels_that_the_encoder_was_not_built_for_are_refused():
    model, x = SemiSupervised(), torch.randn(N, 4)
    svi = SVI(model, GUIDES["amortized"](model, hidden_dims=(4,)))
    assert svi.evaluate_loss(Batch.of(x)).isfinite()
    with pytest.raises(ValueError, match="was built to read 'x', and this batch has 'x', 'y'"):
        svi.evaluate_loss(Batch.of(x, {"y": torch.eye(3)[torch.arange(N) % 3]}))


class Counts(Program):
    def __init__(self):
        super().__init__()
        self.W = nn.Linear(2, 3)

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            return pyro.sample("x", dist.Poisson(self.W(z).exp()).to_event(1), obs=batch.x)


@pytest.mark.parametrize("kind", ["amortized", "flow", "mixture", "semi_amortized"])
def test_integers_are_counts(kind):
    model, x = Counts(), torch.randint(5, (N, 3))
    svi = SVI(model, GUIDES[kind](model, hidden_dims=(4,)))
    losses = []
    for rows in (x.double(), x):
        torch.manual_seed(0)
        losses.append(svi.evaluate_loss(Batch.of(rows)))
    torch.testing.assert_close(*losses)
