"""The estimator that a protocol and a report state is the one that was used."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from experiments.data import as_data
from experiments.evaluation.bounds import per_image
from experiments.evaluation.metrics import evaluate, protocol, summary
from experiments.reports.words.findings import findings
from experiments.reports.words.numbers import number
from guides import GUIDES
from ppl_models import Program, data_plate
from ppl_models.sites import describe
from tests.shared.linear_pair import D, Linear, N, X


class Labelled(Linear):
    def mean(self, z, batch):
        return z + batch.given["y"].unsqueeze(-1)


def test_draws_that_are_not_shared_are_not_said_to_be():
    data = as_data(X, given={"y": torch.arange(N) % 2.0})
    model = Labelled()
    describe(model, data)
    data, guide = data.like(model), GUIDES["prior"](model)
    values = per_image(model, guide, data, 50)
    stated = protocol(data, guide, 50)
    assert "log_sum" not in values  # every datum has draws of its own
    assert stated["estimator"] == "monte_carlo"
    figures = summary(values, guide, 50)
    (words,) = findings({"protocol": stated, "train": figures})
    assert "share" not in words
    assert "±" in words.split("nats")[0]


class Mine(Program):
    """A posterior in closed form, and no marginal."""

    def __init__(self):
        super().__init__()
        self.b = nn.Parameter(torch.zeros(D))

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(D), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(z + self.b, 1.0).to_event(1), obs=batch.x)

    def posterior(self, x):
        return dist.Normal((x - self.b) / 2, torch.full((D,), 0.5**0.5)).to_event(1)


def test_an_exact_guide_without_a_marginal_states_a_number():
    model = Mine()
    guide, data = GUIDES["exact"](model), as_data(X).like(model)
    figures = evaluate(model, guide, data, 1)
    truth = dist.Normal(0.0, 2**0.5).log_prob(X).sum(1).mean().item()
    assert figures["elbo"] == pytest.approx(truth)
    (words,) = findings({"protocol": protocol(data, guide, 1), "train": figures})
    assert f"log p(x) is {number(truth)} nats" in words


def test_the_loss_of_the_prior_is_that_of_the_bound_just_stated():
    figures = {
        "elbo": -900.0,
        "elbo_se": 5.0,
        "iw_bound": -4.7,
        "iw_bound_se": 1.0,
        "iw_bound_draws_se": 0.8,
        "iw_particles": 2000,
        "log_evidence": 17.65,
        "rate": 0.0,
        "squared_error": None,
    }
    stated = {"split": "test", "estimator": "shared_draws", "shape": [1, 8, 8]}
    (words,) = findings({"protocol": stated, "test": figures})
    assert "917" not in words  # 17.65 + 900, of a bound that is nowhere in the paragraph
    assert "loses 22.35 nats" in words
