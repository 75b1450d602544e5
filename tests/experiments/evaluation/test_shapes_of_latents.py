"""Estimators take latents in inner plates, in plates of parameters, and on a circle."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.reparam import LocScaleReparam
from torch import nn

from experiments.data import as_data
from experiments.errors import UsageError
from experiments.evaluation.aggregate import aggregate_figures
from experiments.evaluation.bayesian.to_arviz import to_arviz
from experiments.evaluation.bounds import encode
from experiments.evaluation.calibration import calibrate
from experiments.evaluation.gaps import local_elbo
from experiments.evaluation.metrics import evaluate
from experiments.evaluation.sampling.samples import traversals
from guides import GUIDES
from ppl_models.batch import Batch, data_plate
from ppl_models.program import Program
from ppl_models.sites import describe
from tests.shared.linear_pair import D, Groups, Linear, N, Parts, X


def test_gaps_are_found_in_chunks_of_a_users_data(monkeypatch):
    five_rows = 4 * D * 5
    monkeypatch.setattr("experiments.evaluation.shared_draws.CACHED_NUMBERS", five_rows)
    model = Linear().requires_grad_(False)
    guide = GUIDES["amortized"](model, hidden_dims=(4,))
    found = local_elbo(model, guide, as_data(X).like(model), 50, most=50)
    assert found.elbo.shape == (N,)
    assert found.elbo.isfinite().all()


def test_a_datum_of_a_later_chunk_is_named_by_its_row_in_the_data(monkeypatch):
    def weights(model, guide, batch, draws, at_once):
        """Those of the eighth row are zero."""
        return torch.zeros(draws, len(batch.x)).where((batch.x != X[7]).any(1), -math.inf)

    monkeypatch.setattr("experiments.evaluation.gaps.batch_weights", weights)
    monkeypatch.setattr("experiments.evaluation.shared_draws.CACHED_NUMBERS", 4 * D * 5)
    model = Linear().requires_grad_(False)
    guide = GUIDES["amortized"](model, hidden_dims=(4,))
    with pytest.raises(UsageError, match=r"^datum 7 has an importance weight .* 100\.0% of its"):
        local_elbo(model, guide, as_data(X).like(model), 3, most=0)


class Auxiliary(Program):
    """q(z | x) = N(0, I) = p(z), z a function of an auxiliary site (as Pyro's autoguides)."""

    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(D))

    def forward(self, batch):
        with data_plate(batch):
            q = dist.Normal(self.loc.expand(len(batch.index), D), 1.0).to_event(1)
            u = pyro.sample("u", q, infer={"is_auxiliary": True})
            pyro.sample("z", dist.Delta(u, event_dim=1))


def test_the_aggregate_of_functions_of_auxiliary_sites_is_unknown():
    x = torch.randn(500, D)
    assert aggregate_figures(Linear(), Auxiliary(), as_data(x)) == {}


class OfParts(Program):
    """The exact posterior."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5**0.5))

    def forward(self, batch):
        with data_plate(batch), pyro.plate("parts", D, dim=-2):
            pyro.sample("z", dist.Normal((batch.x.T - 1) / 2, self.scale))


def test_the_aggregate_of_latents_in_inner_plates():
    assert aggregate_figures(Parts(), OfParts(), as_data(torch.randn(12, D))) == {}


def test_draws_of_a_plate_of_parameters():
    data = as_data(torch.randn(12, 1), given={"group": torch.arange(12) % 3})
    model = Groups()
    describe(model, data)
    guide = GUIDES["auto_normal"](model)
    found = to_arviz(model, guide, data, 10)
    assert found["posterior"]["m"].shape == (1, 10, 3)
    assert found["log_likelihood"]["x"].shape == (1, 10, 12)


class NonCentred(Groups):
    """The same means, which Pyro makes functions of standard normal latents."""

    def forward(self, batch):
        return poutine.reparam(super().forward, config={"m": LocScaleReparam(0.0)})(batch)


def test_draws_of_a_reparametrised_latent():
    data = as_data(torch.randn(12, 1), given={"group": torch.arange(12) % 3})
    model = NonCentred()
    describe(model, data)
    found = to_arviz(model, GUIDES["auto_normal"](model), data, 10)
    assert found["posterior"]["m_decentered"].shape == (1, 10, 3)
    assert list(found["log_likelihood"].data_vars) == ["x"]


def test_more_rows_than_fit_into_a_gigabyte_are_encoded_under_the_prior(monkeypatch):
    """Five of the twelve rows fit, and 7000 of their draws are made at a time."""
    monkeypatch.setattr("experiments.evaluation.shared_draws.CACHED_NUMBERS", 7000 * 2**24)
    model = Parts()
    model.largest_map = 2**24 // 5
    z = encode(GUIDES["prior"](model), Batch.of(X), model, 20_000)["z"]
    torch.testing.assert_close(z, (X.T - 1) / 2, atol=0.25, rtol=0)


def test_every_rank_has_a_name():
    found = calibrate(Parts(), OfParts(), 300, 19)
    assert found.ranks.shape == (300, D)
    assert len(found.names) == D


class Incomes(Program):
    """z ~ N(0, 1), x ~ LogNormal(z, 1): one positive number per datum."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
            return pyro.sample("x", dist.LogNormal(z + self.shift, 1.0), obs=batch.x)


def test_a_lognormal_is_no_vector_of_normals():
    x = torch.randn(10, 1).exp()
    want = (dist.Normal(0.0, math.sqrt(2)).log_prob(x.log()) - x.log()).mean().item()
    model = Incomes()
    torch.manual_seed(0)
    found = evaluate(model, GUIDES["prior"](model), x, 20_000)["iw_bound"]
    assert found == pytest.approx(want, abs=0.03)


class Circle(Program):
    """An angle z, x ~ N((cos z, sin z), 1/25)."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.2))

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.VonMises(torch.tensor(0.0), 0.1))
            loc = torch.stack([z.cos(), z.sin()], -1)
            return pyro.sample("x", dist.Normal(loc, self.scale).to_event(1), obs=batch.x)


def test_the_mean_of_angles_is_an_angle_among_them():
    model = Circle()
    x = torch.tensor([[-1.0, 0.0], [-1.0, 0.02], [-1.0, -0.02]])
    torch.manual_seed(0)
    assert evaluate(model, GUIDES["prior"](model), x, 2000)["squared_error"] < 0.1


class Wide(Linear):
    def prior(self):
        return pyro.sample("z", dist.Normal(torch.full((D,), 5.0), 3.0).to_event(1))


def test_a_traversal_walks_in_standard_deviations_of_the_prior():
    shown = traversals(Wide(), torch.full((D,), 5.0), 3)
    torch.testing.assert_close(shown[0, :, 0].detach(), torch.tensor([-4.0, 5.0, 14.0]) + 1)
