"""Planar flows (Rezende & Mohamed 2015), which have a density at their own draws alone."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from experiments.evaluation.metrics import evaluate
from experiments.inference.objectives import OBJECTIVES
from experiments.inference.svi import SVI
from ppl_models import Batch
from ppl_models.batch import data_plate
from tests.shared.linear_pair import D, Encoder, Linear, X

FLOWS = {"planar": dist.transforms.Planar, "radial": dist.transforms.Radial}


class Flow(Encoder):
    def __init__(self, kind):
        super().__init__()
        self.flow = FLOWS[kind](D)
        self.width.data.fill_(1.0)  # wide enough for the tails of the posterior

    def forward(self, batch):
        with data_plate(batch):
            pyro.sample("z", dist.TransformedDistribution(self.q(batch), [self.flow]))


@pytest.mark.parametrize("kind", FLOWS)
def test_several_particles(kind):
    guide = Flow(kind)
    log_p = dist.Normal(1.0, math.sqrt(2)).log_prob(X).sum(1).mean()
    found = evaluate(Linear(), guide, X, 5000)["iw_bound"]
    assert found == pytest.approx(log_p.item(), abs=0.15)


@pytest.mark.parametrize("name", ["stl", "dreg"])
def test_what_needs_its_density_elsewhere_says_so(name):
    svi = SVI(Linear(), Flow("planar"), loss=OBJECTIVES[name]())
    with pytest.raises(ValueError, match="needs log q at given draws"):
        svi.step(Batch.of(X))


class FlowPrior(Linear):
    def __init__(self):
        super().__init__()
        self.flow = FLOWS["planar"](D)

    def prior(self):
        base = dist.Normal(torch.zeros(D), 1.0).to_event(1)
        return pyro.sample("z", dist.TransformedDistribution(base, [self.flow]))


def test_nor_is_one_a_prior_of_draws_from_another_guide():
    with pytest.raises(ValueError, match="density of 'z' is known only at its own draws"):
        SVI(FlowPrior(), Encoder()).step(Batch.of(X))
