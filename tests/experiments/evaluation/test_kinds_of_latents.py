"""The aggregate posterior of latents of any kind, and the groups of a mixture."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from experiments.data import as_data
from experiments.errors import UsageError
from experiments.evaluation.aggregate import aggregate_figures
from experiments.evaluation.hierarchy import channel_kls, group_rows
from experiments.evaluation.oracle import gap_in_closed_form
from experiments.evaluation.sampling.samples import interpolations
from experiments.inference.traces import site_kls, traces
from guides import GUIDES
from ppl_models import NVAE, Batch, Program, data_plate


def test_the_kl_of_groups_under_a_mixture():
    """`nvae --guide top_down_mixture` measures it last, after training and evaluation."""
    model = NVAE((1, 8, 8), groups=(1, 1), latents=2, channels=4, blocks=1, cells_per_block=1)
    guide = GUIDES["top_down_mixture"](model.eval(), components=2, cells_per_block=1).eval()
    x = torch.rand(4, 1, 8, 8).round()
    torch.manual_seed(3)
    found = channel_kls(model, guide, as_data(x))
    torch.manual_seed(3)
    with torch.no_grad():
        p, q = traces(model, guide, Batch.of(x))
        wanted = torch.stack([kl.mean() for kl in site_kls(p, q)[0].values()])
    torch.testing.assert_close(torch.cat(found), wanted)
    rows = group_rows(found, model.latent_shapes)
    assert {row["active channels"] for row in rows} == {None}


class Rate(Program):
    """One positive number per datum."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Gamma(self.scale.new_tensor(2.0), 1.0))
            x = dist.Normal(z.unsqueeze(-1), self.scale).to_event(1)
            return pyro.sample("x", x, obs=batch.x)


class OfRate(Program):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.3))

    def forward(self, batch):
        with data_plate(batch):
            pyro.sample("z", dist.LogNormal(batch.x[:, 0].clamp(min=0.1).log(), self.scale))


class KnownRate(Rate):
    """Says that it knows its posterior, which is no Gaussian."""

    def posterior(self, x):
        return dist.Gamma(torch.full((len(x),), 3.0), 1.0)


class VectorOfRate(OfRate):
    def forward(self, batch):
        with data_plate(batch):
            pyro.sample("z", dist.Normal(batch.x[:, :1], self.scale).to_event(1))


def test_a_gap_in_closed_form_is_that_of_two_gaussians():
    data = as_data(1 + torch.rand(5, 1))
    for guide in (OfRate(), VectorOfRate()):
        assert gap_in_closed_form(KnownRate(), guide, data) is None


def test_the_aggregate_of_one_positive_number():
    x = 1 + torch.rand(30, 1) * 3
    found = aggregate_figures(Rate(), OfRate(), as_data(x))
    assert found["active_units"] == 1
    assert found["aggregate_kl"] > 0


class Coin(Program):
    def __init__(self):
        super().__init__()
        self.b = nn.Parameter(torch.zeros(()))

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Bernoulli(self.b.new_tensor([0.3])).to_event(1))
            return pyro.sample("x", dist.Normal(2 * z + self.b, 1.0).to_event(1), obs=batch.x)


class OfCoin(Program):
    def __init__(self):
        super().__init__()
        self.c = nn.Parameter(torch.zeros(()))

    def forward(self, batch):
        with data_plate(batch):
            logits = 2 * batch.x - 2 + self.c
            pyro.sample("z", dist.Bernoulli(logits=logits).to_event(1))


def test_a_discrete_latent_has_no_aggregate_figures():
    """The mean of q is none of its values."""
    assert aggregate_figures(Coin(), OfCoin(), as_data(1 + torch.randn(20, 1))) == {}


def test_discrete_latents_are_not_interpolated():
    with pytest.raises(UsageError, match=r"an interpolation needs .* is discrete"):
        interpolations(Coin(), OfCoin(), as_data(1 + torch.randn(4, 1)), (0, 1), 3)
