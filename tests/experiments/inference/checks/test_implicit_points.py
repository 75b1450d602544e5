"""A Delta around noise of torch's: no density, so no bound, however random the point is."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from experiments.evaluation.metrics import evaluate
from ppl_models.batch import data_plate
from tests.shared.linear_pair import Encoder, Linear, X


class ByHand(Encoder):
    """The reparametrisation of a VAE written in torch, then shown to Pyro."""

    def forward(self, batch):
        z = (batch.x - 1) / 2 + 0.01 * torch.randn_like(batch.x)
        with data_plate(batch):
            pyro.sample("z", dist.Delta(z).to_event(1))


class Chain(Linear):
    def forward(self, batch):
        with data_plate(batch):
            z = self.prior()
            w = pyro.sample("w", dist.Normal(z, 0.1).to_event(1))
            return pyro.sample("x", dist.Normal(w + self.loc, 1.0).to_event(1), obs=batch.x)


class OfChain(Encoder):
    """A second latent at its prior's mean: a function of the first, with no density."""

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", self.q(batch))
            pyro.sample("w", dist.Delta(z).to_event(1))


@pytest.mark.parametrize(
    ("model", "guide", "site"), [(Linear, ByHand, "z"), (Chain, OfChain, "w")]
)
def test_a_random_point_is_a_point(model, guide, site):
    """log p(x, z) without an entropy: of OfChain about 2.8 nats of log N(z; z, 0.1) too many."""
    with pytest.raises(ValueError, match=f"gives a point for '{site}'"):
        evaluate(model(), guide(), X, 10)
