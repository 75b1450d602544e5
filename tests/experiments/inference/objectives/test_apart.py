"""Particles, strata, second runs and masked entries are kept apart, whatever a program does."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoNormal
from torch import nn
from torch.nn import functional as F

from experiments.inference.objectives import OBJECTIVES
from experiments.inference.svi import SVI
from guides import GUIDES
from ppl_models import Batch
from ppl_models.batch import data_plate
from ppl_models.program import Program
from tests.shared.linear_pair import D, Encoder, HalfPrior, Linear, Topics, X


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


class Rows(Program):
    """The q of an AutoNormal, as one site."""

    def __init__(self, loc) -> None:
        super().__init__()
        self.loc = nn.Parameter(loc.clone())

    def forward(self, batch):
        with data_plate(batch):
            pyro.sample("z", dist.Normal(self.loc[batch.index], 0.5).to_event(1))


@pytest.mark.parametrize("name", ["stl", "iwae", "dreg"])
def test_the_gradient_of_an_autoguide_is_that_of_the_same_q_as_one_site(name):
    model, batch = Linear(), Batch.of(X)
    guide = AutoNormal(model, init_scale=0.5, create_plates=data_plate)
    guide(batch)
    (loc,) = (p for path, p in guide.named_parameters() if path.startswith("locs."))
    with torch.no_grad():
        loc.copy_(X / 3)
    twin = Rows(loc.detach())
    for q in (guide, twin):
        torch.manual_seed(1)
        OBJECTIVES[name](3).differentiable_loss(model, q, batch).backward()
    torch.testing.assert_close(loc.grad, twin.loc.grad, rtol=1e-6, atol=1e-8)


class Folded(Program):
    """z = |u|, u normal around 1.5."""

    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.tensor(1.5))

    def forward(self, batch):
        with data_plate(batch):
            loc = self.loc.expand(len(batch.index))
            pyro.sample("z", dist.FoldedDistribution(dist.Normal(loc, 1.0)))


class HalfNormal(Program):
    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(()))

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.HalfNormal(torch.tensor(1.0)))
            x = dist.Normal(z.unsqueeze(-1) + self.loc * torch.ones(D), 1.0).to_event(1)
            return pyro.sample("x", x, obs=batch.x)


def test_the_kl_of_a_folded_q_is_not_that_of_its_base():
    objective = OBJECTIVES["elbo_analytic_kl"](5)
    losses = []
    for one in (objective, OBJECTIVES["elbo"](5)):
        torch.manual_seed(0)
        losses.append(SVI(HalfNormal(), Folded(), loss=one).evaluate_loss(Batch.of(X)))
    torch.testing.assert_close(*losses)
    assert objective.sampled_sites == ["z"]


class LogNormals(Program):
    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(D))

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.LogNormal(torch.zeros(D), torch.ones(D)).to_event(1))
            return pyro.sample("x", dist.Normal(z + self.loc, 1.0).to_event(1), obs=batch.x)


class ByHand(Program):
    """z = exp(u) with its Jacobian, entry by entry."""

    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.ones(D))

    def forward(self, batch):
        with data_plate(batch):
            q = dist.Normal(self.loc.expand(len(batch.index), D), 0.5).to_event(1)
            u = pyro.sample("u", q, infer={"is_auxiliary": True})
            pyro.sample("z", dist.Delta(u.exp(), log_density=-u).to_event(1))


@pytest.mark.parametrize("pair", [(LogNormals, ByHand), (HalfPrior, Encoder)])
def test_what_has_no_closed_form_is_sampled(pair):
    losses = []
    for name in ("elbo", "elbo_analytic_kl"):
        torch.manual_seed(0)
        model, guide = (program() for program in pair)
        losses.append(SVI(model, guide, loss=OBJECTIVES[name]()).evaluate_loss(Batch.of(X)))
    torch.testing.assert_close(*losses)
    if pair[0] is HalfPrior:
        svi = SVI(HalfPrior(), Encoder(), loss=OBJECTIVES["elbo_free_bits"]())
        with pytest.raises(ValueError, match="one scale of 'z' in model and guide"):
            svi.step(Batch.of(X))


class Parts(Program):
    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(()))

    def forward(self, batch):
        with data_plate(batch), pyro.plate("parts", D, dim=-2):
            z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
            return pyro.sample("x", dist.Normal(z + self.loc, 1.0), obs=batch.x.T)


class OfParts(Program):
    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(0.3))

    def forward(self, batch):
        with data_plate(batch), pyro.plate("parts", D, dim=-2):
            pyro.sample("z", dist.Normal(batch.x.T / 2 + self.shift, 0.8))


def test_one_particle_of_dreg_is_stl_in_inner_plates_too():
    gradients = []
    for name in ("stl", "dreg"):
        model, guide = Parts(), OfParts()
        torch.manual_seed(1)
        OBJECTIVES[name](1).differentiable_loss(model, guide, Batch.of(X)).backward()
        gradients.append((guide.shift.grad, model.loc.grad))
    torch.testing.assert_close(*gradients)
