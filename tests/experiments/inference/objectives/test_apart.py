"""Particles, strata, second runs and masked entries are kept apart, whatever a program does."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn
from torch.nn import functional as F

from experiments.inference.objectives import OBJECTIVES
from experiments.inference.svi import SVI
from guides import GUIDES
from ppl_models import Batch
from ppl_models.batch import data_plate
from ppl_models.program import Program
from tests.shared.linear_pair import D, Encoder, X


class Mixing(Program):
    """Two latents; the second sees a softmax of the first, over particles if dim is 1."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim, self.b = dim, nn.Parameter(torch.zeros(()))

    def forward(self, batch):
        with data_plate(batch):
            q = dist.Normal(batch.x / 2 + self.b, 1.0).to_event(1)
            a = pyro.sample("z0", q)
            pyro.sample("z1", dist.Normal(4 * F.softmax(a, self.dim), 1.0).to_event(1))


class Two(Program):
    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z0", dist.Normal(torch.zeros(D), 1.0).to_event(1))
            w = pyro.sample("z1", dist.Normal(z, 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(w, 1.0).to_event(1), obs=batch.x)


def test_a_guide_that_mixes_particles_has_them_along_the_batch():
    losses = []
    for dim in (1, -1):
        torch.manual_seed(0)
        svi = SVI(Two(), Mixing(dim), loss=OBJECTIVES["elbo"](2000))
        losses.append(svi.evaluate_loss(Batch.of(X)).item())
    assert losses[0] == pytest.approx(losses[1], abs=0.2)


class Topics(Program):
    """A softmax over the latent, counted from the left or from the right."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim, self.decoder = dim, nn.Linear(D, D)

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(D), 1.0).to_event(1))
            x = dist.Normal(5 * self.decoder(F.softmax(z, self.dim)), 1.0)
            return pyro.sample("x", x.to_event(1), obs=batch.x)


def test_strata_of_a_mixture_are_apart_whichever_way_a_model_counts_dimensions():
    losses = []
    for dim in (1, -1):
        torch.manual_seed(0)
        model = Topics(dim)
        guide = GUIDES["mixture"](model, components=3, hidden_dims=(4,))
        torch.manual_seed(1)
        svi = SVI(model, guide, loss=OBJECTIVES["miselbo"](100))
        losses.append(svi.evaluate_loss(Batch.of(X)).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)


class Noisy(Mixing):
    """Dropout between two latents."""

    def forward(self, batch):
        with data_plate(batch):
            a = pyro.sample("z0", dist.Normal(batch.x / 2 + self.b, 1.0).to_event(1))
            kept = F.dropout(9 * a, 0.5, self.training)
            pyro.sample("z1", dist.Normal(kept, 1.0).to_event(1))


@pytest.mark.parametrize("name", ["stl", "dreg"])
def test_a_guide_that_differs_in_its_second_run_is_refused(name):
    guide = Noisy(-1)
    svi = SVI(Two(), guide, loss=OBJECTIVES[name](2))
    with pytest.raises(ValueError, match=r"its second q of 'z1'"):
        svi.step(Batch.of(X))
    guide.eval()
    assert svi.step(Batch.of(X)).isfinite()


class Lengths(Program):
    """A latent that counts in some rows only."""

    def forward(self, batch):
        with data_plate(batch):
            with poutine.mask(mask=batch.index % 2 == 0):
                z = pyro.sample("z", dist.Normal(torch.zeros(D), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=batch.x)


class OfLengths(Encoder):
    def forward(self, batch):
        with data_plate(batch), poutine.mask(mask=batch.index % 2 == 0):
            pyro.sample("z", self.q(batch))


def test_no_free_bits_are_the_closed_kl_under_a_mask_too():
    losses = []
    for objective in (OBJECTIVES["elbo_free_bits"](1, 0.0), OBJECTIVES["elbo_analytic_kl"](1)):
        torch.manual_seed(0)
        losses.append(SVI(Lengths(), OfLengths(), loss=objective).evaluate_loss(Batch.of(X)))
    torch.testing.assert_close(*losses)


class Flat(Program):
    """A regression with a global latent, written for one draw of it at a time."""

    def forward(self, batch):
        w = pyro.sample("w", dist.Normal(torch.zeros(D), 1.0).to_event(1))
        with data_plate(batch):
            mean = (torch.ones(len(batch.index), D) @ w).unsqueeze(-1)
            return pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=batch.x[:, :1])


class OfFlat(Program):
    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(D))

    def forward(self, batch):
        pyro.sample("w", dist.Normal(self.loc, 0.1).to_event(1))


def test_particles_of_a_global_latent_go_along_the_batch():
    losses = []
    for particles in (1, 4):
        torch.manual_seed(0)
        svi = SVI(Flat(), OfFlat(), loss=OBJECTIVES["elbo"](particles))
        losses.append(sum(svi.evaluate_loss(Batch.of(X)).item() for _ in range(200)) / 200)
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
