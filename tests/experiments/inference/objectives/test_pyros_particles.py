"""Particles of Pyro's ELBOs lie in a dimension of their own, which not every model leaves free."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import RenyiELBO, Trace_ELBO
from torch import nn
from torch.nn import functional as F

from experiments.inference.svi import SVI
from ppl_models import Batch
from ppl_models.batch import data_plate
from ppl_models.program import Program
from tests.shared.linear_pair import D, Encoder, X
from tests.shared.right import right_or_refused


class Topics(Program):
    """A softmax over the latent, counted from the left or from the right."""

    def __init__(self, dim):
        super().__init__()
        self.dim = dim
        torch.manual_seed(0)
        self.decoder = nn.Linear(D, D)

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(D), 1.0).to_event(1))
            x = dist.Normal(5 * self.decoder(F.softmax(z, self.dim)), 1.0)
            return pyro.sample("x", x.to_event(1), obs=batch.x)


@pytest.mark.parametrize("kind", [Trace_ELBO, RenyiELBO])
def test_a_model_that_mixes_particles(kind):
    def loss(dim):
        torch.manual_seed(1)
        objective = kind(num_particles=50, max_plate_nesting=1, vectorize_particles=True)
        return SVI(Topics(dim), Encoder(), loss=objective).evaluate_loss(Batch.of(X))

    right_or_refused(lambda: loss(1), loss(-1), "Topics", rel=1e-9)
