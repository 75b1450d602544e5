"""Values in the place of rows, batches changed in place, and guides that run another model."""

import copy

import pyro
import pyro.distributions as dist
import pytest
import torch

from experiments.data import as_data
from experiments.evaluation.bounds import whole_bound
from experiments.evaluation.metrics import evaluate
from experiments.inference.svi import SVI
from guides import GUIDES
from ppl_models import Batch
from ppl_models.batch import data_plate
from ppl_models.program import Program
from ppl_models.sites import describe
from tests.shared.linear_pair import Encoder, Linear, X

Y = X[:, 0]


class Column(Program):
    """One number per datum, in an event of one."""

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=batch.x)


class OfColumn(Encoder):
    def q(self, batch):
        return dist.Normal(batch.x.reshape(-1, 1) / 2, 0.5**0.5).to_event(1)


def test_a_value_without_rows_is_no_table():
    """log N(x_i; z_i, 1) of every row, not the sum of log N(x_j; z_i, 1) over all j."""
    loss = SVI(Column(), OfColumn()).evaluate_loss(Batch.of(Y[:, None]))
    want = dist.Normal(0.0, 2**0.5).log_prob(Y).mean()  # q is the posterior
    torch.testing.assert_close(-loss, want)
    with pytest.raises(ValueError, match=r"has the shape \[12\].* \[12, 1\]"):
        SVI(Column(), OfColumn()).evaluate_loss(Batch.of(Y))


class OfOne(Encoder):
    """One number in the place of two."""

    def q(self, batch):
        return dist.Normal(batch.x[:, :1] / 2, self.width).to_event(1)


class Process(Program):
    """A Gaussian process over all rows: f of as many numbers as the batch has rows."""

    def forward(self, batch):
        t = batch.given["t"]
        K = (-(t[:, None] - t).square()).exp() + 0.1 * torch.eye(len(t))
        f = pyro.sample("f", dist.MultivariateNormal(torch.zeros(len(t)), K))
        with data_plate(batch):
            x = dist.Normal(f.unsqueeze(-1), 1.0).to_event(1)
            return pyro.sample("x", x, obs=batch.x)


def test_one_number_does_not_stand_for_several():
    with pytest.raises(ValueError, match=r"draws 'z' with the shape \[1\].* Linear has \[2\]"):
        evaluate(Linear(), OfOne(), X, 5)
    data, model = as_data(X[:, :1], given={"t": X[:, 1]}), Process()
    describe(model, data)
    with pytest.raises(ValueError, match=r"draws 'f' with the shape \[1\].* has \[12\]"):
        whole_bound(model, GUIDES["auto_normal"](model), data)


class Shifted(Encoder):
    def q(self, batch):
        x = batch.x
        x -= 1
        return dist.Normal(x / 2, self.width).to_event(1)


class Cleaned(Encoder):
    def q(self, batch):
        batch.x[batch.x < -8] = 0.0
        return super().q(batch)


class Normalised(Encoder):
    def q(self, batch):
        batch.x.div_(batch.x.norm(dim=1, keepdim=True))
        return super().q(batch)


def test_a_batch_is_not_changed_at_every_run():
    with pytest.raises(ValueError, match="Linear or Shifted changes its batch in place"):
        SVI(Linear(), Shifted()).step(Batch.of(X.clone()))
    x, zero = X.clone(), X.clone()
    x[3, 1], zero[3, 1] = -9.0, 0.0
    losses = []
    for rows in (x, zero):  # the same at every run: what is observed is clear
        torch.manual_seed(0)
        losses.append(SVI(Linear(), Cleaned()).evaluate_loss(Batch.of(rows)))
    torch.testing.assert_close(*losses)
    assert SVI(Linear(), Normalised()).step(Batch.of(X.clone())).isfinite()


def test_an_effect_guide_runs_the_model_that_it_is_used_with():
    model, other = Linear(), Linear()
    guide, words = GUIDES["prior"](other), "build the guide from the model"
    evaluate(model, guide, X, 10)  # they are alike
    with pytest.raises(ValueError, match=words):
        SVI(model, guide).step(Batch.of(X))
    with torch.no_grad():
        other.loc += 1
    with pytest.raises(ValueError, match=words):
        evaluate(model, guide, X, 10)
    evaluate(*copy.deepcopy((other, guide)), X, 10)
