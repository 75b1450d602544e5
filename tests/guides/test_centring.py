"""``centre`` moves the input of an encoder, and nothing else."""

import pyro
import pytest
import torch

from guides import Amortized, Mixture
from ppl_models import PPCA, VAE, Batch, data_plate, describe
from ppl_models.networks import MLP


def test_a_centred_network_is_the_network_of_the_difference():
    network, x, mean = MLP((3, 5, 2)), torch.randn(7, 3), torch.randn(3)
    expected = network(x - mean).detach()
    network.centre(mean)
    torch.testing.assert_close(network(x), expected)


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_a_linear_encoder_stays_narrow(covariance):
    guide, x = Amortized(PPCA(3, 2), encoder="linear", covariance=covariance), torch.randn(4, 3)
    before = guide.posterior(x).stddev
    guide.centre(x.mean(0))
    torch.testing.assert_close(before, torch.full((4, 2), -2.0).exp())
    torch.testing.assert_close(guide.posterior(x).stddev, before)


class Labelled(VAE):
    """A VAE whose latent is shifted by what is given."""

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", self.prior())
            shift = batch.given["label"].unsqueeze(-1)
            x = self.likelihood.distribution(self.decoder(z + shift))
            return pyro.sample("x", x, obs=batch.x)


@pytest.mark.parametrize("kind", [Amortized, Mixture])
def test_what_is_given_beside_x_is_not_centred(kind):
    batch = Batch.of(torch.rand(4, 1, 2, 2), {"label": torch.rand(4)})
    model = Labelled((1, 2, 2), hidden_dims=(5,))
    describe(model, batch)
    guide = kind(model, hidden_dims=(6,))
    mean = batch.x.mean(0)
    expected = guide.features(batch._replace(x=batch.x - mean))[0].detach()
    guide.centre(mean)
    torch.testing.assert_close(guide.features(batch)[0], expected)
