"""Figures of a pair as ``fit`` leaves it, in training mode and perhaps inside a handler."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

from experiments.data import as_data
from experiments.evaluation.aggregate import aggregate_figures
from experiments.evaluation.bayesian.to_arviz import to_arviz
from experiments.evaluation.bounds import per_image, reconstruct
from experiments.evaluation.calibration import calibrate
from experiments.evaluation.khat import weights_of_draws
from experiments.evaluation.metrics import evaluate
from experiments.evaluation.predictive import replicated_sets
from experiments.inference.handlers import ObservePixels, TemperKL
from guides import GUIDES
from ppl_models import PPCA, Batch
from tests.shared.linear_pair import D, Encoder, Linear, X

DATA = as_data(X)

ESTIMATES = {
    "calibrate": lambda p, q: calibrate(p, q, 200, 19).ranks,
    "k-hat": lambda p, q: weights_of_draws(p, q, DATA, 30),
    "ArviZ": lambda p, q: torch.tensor(to_arviz(p, q, DATA, 5)["posterior"]["z"].values),
    "predictive": lambda p, q: replicated_sets(p, q, DATA),
    "aggregate": lambda p, q: torch.tensor(list(aggregate_figures(p, q, DATA).values())),
    "bounds": lambda p, q: per_image(p, q, DATA, 5)["elbo"],
    "reconstruct": lambda p, q: reconstruct(p, q, Batch.of(DATA.pixels)),
}


class Normed(Encoder):
    """Its encoder has a batch norm, whose running means are part of q."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(D, affine=False)

    def q(self, batch):
        return dist.Normal(self.norm(batch.x) / 2, self.width).to_event(1)


class Noisy(Linear):
    """Its decoder has dropout."""

    def mean(self, z, batch):
        return nn.functional.dropout(z, 0.5, self.training) + self.loc


@pytest.mark.parametrize("name", ESTIMATES)
def test_figures_are_of_evaluation_mode_and_leave_running_means(name):
    model, guide, found = Noisy(), Normed(), []
    for training in (False, True):
        model.train(training), guide.train(training)
        torch.manual_seed(0)
        found.append(ESTIMATES[name](model, guide))
        assert model.training == guide.training == guide.norm.training == training
    torch.testing.assert_close(*found)
    assert guide.norm.num_batches_tracked == 0
    assert (guide.norm.running_mean == 0).all()


@pytest.mark.parametrize("name", ["amortized", "prior"])
def test_bounds_are_plain_inside_of_annealing(name):
    torch.manual_seed(0)
    model, x = PPCA(data_dim=5, latent_dim=2), torch.randn(20, 5)
    guide = GUIDES[name](model)
    plain = evaluate(model, guide, x, 20)
    with TemperKL(0.1):
        assert evaluate(model, guide, x, 20) == plain
    with ObservePixels(torch.zeros(5, dtype=torch.bool)):  # asked for, unlike annealing
        assert evaluate(model, guide, x, 20)["distortion"] == 0


class Annealed(Linear):
    factor = 1.0

    def prior(self):
        with poutine.scale(scale=self.factor):
            return pyro.sample("z", dist.Normal(torch.zeros(D), 1.0).to_event(1))


def test_a_density_that_is_scaled_later_is_refused_then():
    model, guide = Annealed(), Encoder()
    evaluate(model, guide, X, 5)
    model.factor = 0.5
    with pytest.raises(ValueError, match="scales the log-density of 'z'"):
        evaluate(model, guide, X, 5)
