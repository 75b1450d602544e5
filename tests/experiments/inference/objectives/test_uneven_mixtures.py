"""miselbo draws equally often, and Gaussians, from every component: right for no other mixture."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from experiments.inference.objectives import OBJECTIVES
from experiments.inference.svi import SVI
from ppl_models import Batch
from ppl_models.batch import data_plate
from ppl_models.program import Program
from tests.shared.linear_pair import Linear, X
from tests.shared.right import right_or_refused


class Mixed(Program):
    def __init__(self, logits, family):
        super().__init__()
        self.logits, self.family = nn.Parameter(torch.tensor(logits)), family

    def q(self, x):
        loc = torch.stack([(x - 1) / 2, (x - 1) / 2 + 3], -2)
        shares = dist.Categorical(logits=self.logits.expand(len(x), 2))
        return dist.MixtureSameFamily(shares, self.family(loc, 0.7).to_event(1))

    def forward(self, batch):
        with data_plate(batch):
            pyro.sample("z", self.q(batch.x))


@pytest.mark.parametrize(
    ("logits", "family"),
    [([0.0, 0.0], dist.Normal), ([2.0, 0.0], dist.Normal), ([0.0, 0.0], dist.Laplace)],
)
@torch.no_grad()
def test_a_mixture_has_its_own_elbo(logits, family):
    model, guide = Linear(), Mixed(logits, family)
    q = guide.q(X)
    z = q.sample((20_000,))
    log_p = dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(z + 1, 1.0).log_prob(X)
    want = (q.log_prob(z) - log_p.sum(-1)).mean()
    svi = SVI(model, guide, loss=OBJECTIVES["miselbo"](2000))
    right_or_refused(lambda: svi.evaluate_loss(Batch.of(X)), want, "miselbo", abs=0.1)
