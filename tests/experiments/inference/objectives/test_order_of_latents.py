"""Closed KLs where q draws the latents in another order than p: the ladder of the IWAE paper.

With the exact posterior the ELBO is log p(x). At a z0 that was drawn given z1, KL(q(z1) || p(z1 |
z0)) is not E log q(z1) - log p(z1 | z0): here it is larger by Cov(z0, z1) = 1/3.
"""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from experiments.inference.objectives import OBJECTIVES
from ppl_models import Batch
from ppl_models.batch import data_plate
from ppl_models.program import Program

X = torch.linspace(-2.0, 2.0, 9, dtype=torch.float64)


class Chain(Program):
    """z0 ~ N(0, 1), z1 ~ N(z0, 1), x ~ N(z1, 1)."""

    def forward(self, batch):
        with data_plate(batch):
            z0 = pyro.sample("z0", dist.Normal(torch.zeros(()), 1.0))
            z1 = pyro.sample("z1", dist.Normal(z0, 1.0))
            return pyro.sample("x", dist.Normal(z1, 1.0), obs=batch.x)


class BottomUp(Program):
    """The posterior, as q(z1 | x) q(z0 | z1)."""

    def forward(self, batch):
        with data_plate(batch):
            z1 = pyro.sample("z1", dist.Normal(2 * batch.x / 3, math.sqrt(2 / 3)))
            pyro.sample("z0", dist.Normal(z1 / 2, math.sqrt(1 / 2)))


@pytest.mark.parametrize(
    ("name", "options"),
    [("elbo", {}), ("elbo_analytic_kl", {}), ("elbo_free_bits", {"free_bits": 0.0})],
)
def test_under_the_posterior_every_elbo_is_the_evidence(name, options):
    objective = OBJECTIVES[name](4000, **options)
    found = -objective.loss(Chain(), BottomUp(), Batch.of(X)) / len(X)
    want = dist.Normal(0.0, math.sqrt(3)).log_prob(X).mean().item()
    assert found == pytest.approx(want, abs=0.03)
