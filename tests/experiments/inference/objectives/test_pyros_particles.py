"""Particles of Pyro's ELBOs lie in a dimension of their own, which not every model leaves free."""

import pytest
import torch
from pyro.infer import RenyiELBO, Trace_ELBO

from experiments.inference.svi import SVI
from ppl_models import Batch
from tests.shared.linear_pair import Encoder, Topics, X
from tests.shared.right import right_or_refused


@pytest.mark.parametrize("kind", [Trace_ELBO, RenyiELBO])
def test_a_model_that_mixes_particles(kind):
    def loss(dim):
        torch.manual_seed(0)
        model = Topics(dim)
        torch.manual_seed(1)
        objective = kind(num_particles=50, max_plate_nesting=1, vectorize_particles=True)
        return SVI(model, Encoder(), loss=objective).evaluate_loss(Batch.of(X))

    right_or_refused(lambda: loss(1), loss(-1), "Topics", rel=1e-9)
