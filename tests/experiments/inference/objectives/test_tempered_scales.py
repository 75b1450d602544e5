"""Under an annealing factor that is a tensor, as in a compiled step, scales are still compared."""

import pytest
import torch

from experiments.inference.handlers import TemperKL
from experiments.inference.objectives import OBJECTIVES
from experiments.inference.svi import SVI
from ppl_models import Batch
from tests.shared.linear_pair import Encoder, HalfPrior, X


@pytest.mark.parametrize("beta", [0.3, torch.tensor(0.3)])
def test_what_has_no_closed_form_is_sampled_under_annealing_too(beta):
    losses = []
    for name in ("elbo", "elbo_analytic_kl"):
        torch.manual_seed(0)
        with TemperKL(beta):
            svi = SVI(HalfPrior(), Encoder(), loss=OBJECTIVES[name]())
            losses.append(svi.evaluate_loss(Batch.of(X)))
    torch.testing.assert_close(*losses)
