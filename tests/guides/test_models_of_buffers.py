"""Models whose numbers are buffers, or whose first parameter is an integer."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

from guides import GUIDES
from ppl_models import Batch, Program, data_plate


class Known(Program):
    """x = W z + noise with everything known."""

    def __init__(self, first=None):
        super().__init__()
        if first is not None:
            self.first = first
            self.W = nn.Parameter(torch.randn(3, 2))
        else:
            self.register_buffer("W", torch.randn(3, 2))

    def forward(self, batch):
        with data_plate(batch):
            zero = self.W.new_zeros(2)
            z = pyro.sample("z", dist.Normal(zero, zero + 1).to_event(1))
            x = dist.Normal(z @ self.W.mT, self.W.new_ones(())).to_event(1)
            return pyro.sample("x", x, obs=batch.x)


def check(model, name, dtype):
    x = torch.randn(4, 3, dtype=dtype)
    guide = GUIDES[name](model, **({"size": 4} if name in ("mean_field", "full_rank") else {}))
    run = poutine.trace(guide).get_trace(Batch.of(x))
    assert run.nodes["z"]["value"].dtype == dtype
    replayed = poutine.trace(poutine.replay(model, run)).get_trace(Batch.of(x))
    assert replayed.log_prob_sum().isfinite()


@pytest.mark.parametrize("name", ["amortized", "flow", "mean_field", "full_rank"])
def test_a_guide_has_the_dtype_of_its_models_buffers(name):
    check(Known().float(), name, torch.float32)  # the default is float64


@pytest.mark.parametrize("name", ["amortized", "mean_field"])
def test_an_integer_among_the_parameters_is_passed_over(name):
    count = nn.Parameter(torch.tensor(3), requires_grad=False)
    check(Known(count).float(), name, torch.float32)
