"""Rows that depend on each other in a minibatch, where the first row alone does not show it."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from experiments.inference.compiled import gradients
from experiments.inference.svi import SVI
from ppl_models import Batch
from ppl_models.batch import data_plate
from ppl_models.program import Program
from tests.shared.linear_pair import SOME, D, Encoder, Linear, N, X
from tests.shared.right import right_or_refused


class Centred(Program):
    """Bayesian regression on a covariate less the mean of the batch: w is global."""

    def forward(self, batch):
        w, c = pyro.sample("w", dist.Normal(torch.zeros(()), 1.0)), batch.given["c"]
        with data_plate(batch):
            return pyro.sample("x", dist.Normal(w * (c - c.mean()), 1.0), obs=batch.x)


class OfW(Program):
    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.tensor(0.0))

    def forward(self, batch):
        pyro.sample("w", dist.Normal(self.loc, 0.1))


def test_rows_that_are_mixed_beside_a_global_latent():
    batch = Batch(X[:4, 0], torch.arange(4), N, {"c": X[:4, 1]})
    with pytest.raises(ValueError, match="Centred mixes the rows of a batch"):
        SVI(Centred(), OfW()).step(batch)


class Lagged(Linear):
    """An autoregression over the rows: the first row has no row before it."""

    def mean(self, z, batch):
        return z + torch.cat([torch.zeros(1, D), batch.x[:-1]])


def test_an_autoregression_over_rows():
    with pytest.raises(ValueError, match="Lagged mixes the rows of a batch"):
        SVI(Lagged(), Encoder()).step(SOME)


class AllAtOnce(Linear):
    """z of all rows as one event, outside the plate, as in scripts without plates."""

    def forward(self, batch):
        rows = len(batch.index)
        z = pyro.sample("z", dist.Normal(torch.zeros(rows, D), 1.0).to_event(2))
        with data_plate(batch):
            x = dist.Normal(z + self.loc, 1.0).to_event(1)
            return pyro.sample("x", x, obs=batch.x)


class OfAll(Encoder):
    def forward(self, batch):
        pyro.sample("z", dist.Normal((batch.x - 1) / 2, math.sqrt(0.5)).to_event(2))


def test_a_latent_with_a_row_per_datum_outside_the_plate():
    """Its KL would count 4 rows where the likelihood counts 12."""
    want = -dist.Normal(1.0, math.sqrt(2)).log_prob(SOME.x).sum(1).mean()
    right_or_refused(lambda: SVI(AllAtOnce(), OfAll()).evaluate_loss(SOME), want, "'z'")


class Twice(Linear):
    """Two observed sites; the second may have slipped out of the plate."""

    def __init__(self, inside):
        super().__init__()
        self.inside = inside

    def forward(self, batch):
        with data_plate(batch):
            z = self.prior()
            pyro.sample("y", dist.Normal(z.sum(-1), 1.0), obs=batch.x[:, 0])
            x = dist.Normal(z + self.loc, 1.0)
            if self.inside:
                return pyro.sample("x", x.to_event(1), obs=batch.x)
        return pyro.sample("x", x.to_event(2), obs=batch.x)


def test_an_observation_that_slipped_out_of_the_plate():
    def loss(inside):
        torch.manual_seed(0)
        return SVI(Twice(inside), Encoder()).evaluate_loss(SOME)

    right_or_refused(lambda: loss(False), loss(True), "'x'")


@pytest.mark.parametrize("compile", [False, True])
def test_a_first_batch_of_one_row_is_no_pass_for_several(compile, monkeypatch):
    monkeypatch.setattr(gradients, "compiled", lambda graph, values: graph)  # as it was traced
    monkeypatch.setattr(gradients, "can_compile", lambda: True)
    svi = SVI(Lagged(), Encoder(), compile=compile)
    assert svi.step(Batch(X[:1], torch.arange(1), N)).isfinite()
    with pytest.raises(ValueError, match="Lagged mixes the rows of a batch"):
        svi.step(SOME)
