"""A scalar latent is checked by one number: whether a pair is refused must not hang on its sign.

As in Pyro's tutorial on Bayesian regression, whose guide draws a positive scale from a Gaussian.
"""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from experiments.inference.svi import SVI
from ppl_models import Batch
from ppl_models.batch import data_plate
from ppl_models.program import Program
from tests.shared.linear_pair import D, X


class Regression(Program):
    def __init__(self, prior):
        super().__init__()
        self.prior, self.loc = prior, nn.Parameter(torch.zeros(D))

    def forward(self, batch):
        s = pyro.sample("s", self.prior)
        with data_plate(batch):
            return pyro.sample("x", dist.Normal(self.loc + s, 1.0).to_event(1), obs=batch.x)


class Guide(Program):
    def __init__(self, family):
        super().__init__()
        self.family, self.loc = family, nn.Parameter(torch.tensor(1.0))

    def forward(self, batch):
        pyro.sample("s", self.family(self.loc, 0.05))


@pytest.mark.parametrize(
    ("prior", "family", "words"),
    [
        (lambda: dist.Exponential(torch.tensor(1.0)), dist.Normal, "outside the support"),
        (lambda: dist.HalfNormal(torch.tensor(1.0)), dist.Normal, "outside the support"),
        (lambda: dist.Normal(torch.tensor(0.0), 1.0), dist.LogNormal, "never draws"),
    ],
)
def test_a_scalar_is_refused_whatever_the_seed(prior, family, words):
    for seed in range(12):
        torch.manual_seed(seed)
        with pytest.raises(ValueError, match=words):
            SVI(Regression(prior()), Guide(family)).step(Batch.of(X))
