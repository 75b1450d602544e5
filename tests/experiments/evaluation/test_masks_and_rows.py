"""What is masked, transformed or was never fitted is in no figure."""

import math
from dataclasses import replace

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

from experiments.data import as_data
from experiments.data.rows import Source
from experiments.errors import UsageError
from experiments.evaluation.calibration import calibrate
from experiments.evaluation.metrics import evaluate
from experiments.evaluation.predictive import replicated_sets, tail_areas
from experiments.evaluation.sampling.samples import complete
from experiments.evaluation.tail_index import far_tail
from guides import GUIDES, Guide
from ppl_models.batch import data_plate
from ppl_models.program import Program
from tests.shared.linear_pair import D, Encoder, Linear, N, Transformed, X


class OwnRows(Guide):
    """A guide of a user's with a row per datum and a ``for_data``."""

    def __init__(self, model, size=N):
        super().__init__(model)
        self.loc = nn.Parameter(torch.full((size, D), 5.0))

    def for_data(self, size):
        return type(self)(self.model, size)

    def forward(self, batch):
        with data_plate(batch):
            q = dist.Normal(self.loc[batch.index], math.sqrt(0.5)).to_event(1)
            return pyro.sample("z", q)


@pytest.mark.parametrize("kind", ["own", "auto_normal"])
def test_rows_that_were_never_fitted_are_not_measured(kind):
    model = Linear()
    guide = OwnRows(model) if kind == "own" else GUIDES["auto_normal"](model).for_data(N)
    test = replace(as_data(X), source=Source(split="test"))
    with pytest.raises(ValueError, match="has parameters for every datum of its own data set"):
        evaluate(model, guide, test, 200)


class OfTransformed(Encoder):
    def forward(self, batch):
        with data_plate(batch):
            seen = (batch.x - 5) / 3
            pyro.sample("z", dist.Normal((seen - 1) / 2, math.sqrt(0.5)).to_event(1))


def test_draws_of_a_function_of_the_data_are_no_data():
    model, words = Transformed(), "observes something else than it draws"
    with pytest.raises(ValueError, match=words):
        calibrate(model, OfTransformed(), 1000, 19)
    with pytest.raises(ValueError, match=words):
        replicated_sets(model, OfTransformed(), as_data(3 * X + 5).like(model), 20)


class Missing(Program):
    """x ~ N(5 + z / 10, 1), entries masked where they are missing."""

    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.full((3,), 5.0))

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            x = dist.Normal(self.loc + z / 10, 1.0).mask(batch.given["mask"]).to_event(1)
            return pyro.sample("x", x, obs=batch.x)


def test_entries_that_are_missing_are_not_compared():
    torch.manual_seed(3)
    x = 5 + torch.randn(300, 1) / 10 + torch.randn(300, 3)
    x[torch.rand(300, 3) < 0.3] = torch.nan
    model, data = Missing(), as_data(x, missing="mask")
    data = data.like(model)
    made = replicated_sets(model, None, data, 60)
    rows = {row["statistic"]: row for row in tail_areas(data.observations(), made)}
    for name in ("mean", "standard deviation", "largest value"):
        row = rows[name]
        assert abs(row["observed"] - row["replicated"]) < 4 * row["sd"], row


class Named(Linear):
    """``Linear``, its observation looked up by another name than x."""

    def forward(self, batch):
        with data_plate(batch):
            z = self.prior()
            x = dist.Normal(z + self.loc, 1.0).to_event(1)
            return pyro.sample("counts", x, obs=batch.obs("counts"))


def test_hidden_pixels_are_hidden_whatever_the_site_is_called():
    model = Named()
    mask = torch.tensor([True, False])
    shown, _ = complete(model, as_data({"counts": X}), mask)
    assert shown.shape == (len(X), D)
    torch.testing.assert_close(shown[:, 1], torch.ones(len(X)), atol=0.15, rtol=0)
    assert shown[:, 0].mean().item() == pytest.approx(((X[:, 0] + 1) / 2).mean().item(), abs=0.1)


class Masked(Linear):
    def forward(self, batch):
        with data_plate(batch):
            with poutine.mask(mask=batch.given["seen"]):
                z = self.prior()
            return pyro.sample("x", dist.Normal(z + self.loc, 1.0).to_event(1), obs=batch.x)


class OfMasked(Encoder):
    def forward(self, batch):
        with data_plate(batch), poutine.mask(mask=batch.given["seen"]):
            pyro.sample("z", self.q(batch))


def test_a_masked_latent_has_no_density_in_the_tail_either():
    seen = torch.tensor([True, False] * (len(X) // 2))
    model = Masked()
    data = as_data(X, given={"seen": seen}).like(model)
    with pytest.raises(UsageError, match="is not for 'z', which has a mask"):
        far_tail(model, OfMasked(), data, 2000, images=2)


class Two(Linear):
    def forward(self, batch):
        with data_plate(batch):
            z = self.prior()
            for name in ("a", "b"):
                likelihood = dist.Normal(z + self.loc, 1.0).to_event(1)
                pyro.sample(name, likelihood, obs=batch.obs(name))


class OfTwo(Encoder):
    def forward(self, batch):
        with data_plate(batch):
            q = dist.Normal((batch.obs("a") + batch.obs("b") - 2) / 3, 0.5 * torch.ones(D))
            pyro.sample("z", q.to_event(1))


def test_the_far_tail_of_a_model_with_several_observed_sites():
    data = as_data({"a": X, "b": X + 0.3}).like(Two())
    found = far_tail(Two(), OfTwo(), data, 2000, images=1)
    assert found.eigenvalue.tolist() == pytest.approx([1 - 3 * 0.25], abs=1e-3)
