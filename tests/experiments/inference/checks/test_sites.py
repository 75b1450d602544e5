"""Sites as people write them: right, or refused in one line that names the site."""

import functools

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import MultivariateNormal

from experiments.data import as_data
from experiments.evaluation.ais import annealed_bound
from experiments.evaluation.bounds import encode, per_image
from experiments.inference.frozen import held_out
from experiments.inference.objectives import OBJECTIVES
from experiments.inference.svi import SVI
from guides import GUIDES, allowed_guides
from ppl_models import PPCA
from ppl_models.batch import Batch, data_plate
from ppl_models.program import Program
from ppl_models.sites import describe

D = 5


class Scalar(Program):
    """z ~ N(0, 1), x ~ N(z b, 1/4)."""

    def __init__(self):
        super().__init__()
        self.b = torch.nn.Parameter(torch.randn(D))

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(self.b.new_zeros(()), 1.0))
            return pyro.sample(
                "x", dist.Normal(z[..., None] * self.b, 0.5).to_event(1), obs=batch.x
            )

    def evidence(self, x):
        C = torch.outer(self.b, self.b) + 0.25 * torch.eye(D).to(self.b)
        return MultivariateNormal(torch.zeros(D).to(self.b), C).log_prob(x).detach()


@functools.cache
def fitted() -> tuple[Scalar, torch.nn.Module, torch.Tensor]:
    """A frozen model, the mean-field guide fitted to data, and the data."""
    torch.manual_seed(0)
    model = Scalar().requires_grad_(False)
    x = torch.randn(30, D)
    return model, held_out(model, GUIDES["mean_field"](model), as_data(x).like(model)), x


def test_a_scalar_latent_of_every_datum():
    model, guide, x = fitted()
    data, want = as_data(x).like(model), model.evidence(x)
    assert allowed_guides(model) == ("prior", "point", "mean_field", "bottom_up", "top_down")
    found = per_image(model, guide, data, particles=5)
    # the posterior is a Gaussian of the family: every weight is log p(x)
    for name in ("elbo", "iw_bound"):
        torch.testing.assert_close(found[name], want, atol=1e-3, rtol=0)
    b, precision = model.b.detach(), 1 + 4 * model.b.detach().square().sum()
    z = encode(guide, Batch.of(x), model)["z"]
    torch.testing.assert_close(z, 4 * x @ b / precision, atol=1e-2, rtol=0)
    prior = per_image(model, GUIDES["prior"](model), data, particles=20000)
    assert (prior["iw_bound"] - want).abs().mean() < 0.05
    chains = annealed_bound(model, GUIDES["prior"](model), Batch.of(x), 32, 50, 3)
    assert (chains.bound - want).abs().mean() < 0.2


@pytest.mark.parametrize("objective", ["elbo", "elbo_analytic_kl", "stl", "iwae", "dreg"])
def test_a_scalar_latent_under_every_objective(objective):
    model, guide, x = fitted()
    torch.manual_seed(0)
    particles = 1 if objective == "elbo_analytic_kl" else 4
    svi = SVI(model, guide, loss=OBJECTIVES[objective](particles))
    losses = torch.stack([svi.evaluate_loss(Batch.of(x)) for _ in range(100)])
    error = 4 * losses.std().item() / 10 + 2e-3  # rows are fitted to about 1e-3 nats
    assert -losses.mean().item() == pytest.approx(model.evidence(x).mean().item(), abs=error)


class WithDeterministic(PPCA):
    posterior, marginal = PPCA.posterior, PPCA.marginal  # the story is the same

    def forward(self, batch):
        pyro.deterministic("sigma", self.sigma)
        pyro.deterministic("twice", 2 * self.W, event_dim=2)
        return super().forward(batch)


def test_a_deterministic_site_outside_the_plate_has_no_density():
    torch.manual_seed(0)
    model = WithDeterministic(D, 2).double()
    x = torch.randn(9, D, dtype=torch.float64)
    guide = GUIDES["exact"](model)
    found = per_image(model, guide, as_data(x).like(model), particles=7)
    C = model.W @ model.W.mT + model.sigma**2 * torch.eye(D)
    want = MultivariateNormal(model.mu, C).log_prob(x).detach()
    for name in ("elbo", "iw_bound"):
        torch.testing.assert_close(found[name], want)
    for objective in ("elbo", "iwae", "stl"):
        loss = SVI(model, guide, loss=OBJECTIVES[objective](3)).evaluate_loss(Batch.of(x))
        torch.testing.assert_close(-loss, want.mean())


class Missing(Program):
    def __init__(self, name="x"):
        super().__init__()
        self.name, self.W = name, torch.nn.Parameter(torch.randn(D, 2))

    def forward(self, batch):
        seen = batch.index % 2 == 0
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(self.W.new_zeros(2), 1.0).to_event(1))
            x = dist.Normal(z @ self.W.mT, 0.4).to_event(1)
            if self.name != "x":
                pyro.sample("x", x, obs=batch.x)
            pyro.sample(self.name, x, obs=batch.x, obs_mask=seen)


@pytest.mark.parametrize("name", ["x", "y"])
def test_an_obs_mask_is_refused_by_the_site(name):
    for use in (describe, GUIDES["full_rank"], GUIDES["mean_field"], allowed_guides):
        with pytest.raises(ValueError, match=rf"^obs_mask makes a latent '{name}_unobserved'"):
            use(Missing(name))


class Nested(Program):
    def __init__(self):
        super().__init__()
        self.b = torch.nn.Parameter(torch.ones(3))

    def forward(self, batch):
        with data_plate(batch):
            with pyro.plate("factors", 3, dim=-2):
                z = pyro.sample("z", dist.Normal(self.b.new_zeros(()), 1.0))
            x = dist.Normal(z.mT * self.b, 0.5).to_event(1)
            return pyro.sample("x", x, obs=batch.x)


def test_a_second_plate_is_refused_by_guides_per_datum():
    for name in ("mean_field", "point"):
        with pytest.raises(ValueError, match="the plate 'factors' besides the data plate"):
            GUIDES[name](Nested())


def test_the_prior_takes_a_second_plate():
    model, x = Nested().requires_grad_(False), torch.randn(8, 3)
    found = per_image(model, GUIDES["prior"](model), as_data(x).like(model), particles=20_000)
    evidence = dist.Normal(0.0, (1 + 0.25) ** 0.5).log_prob(x).sum(1)
    torch.testing.assert_close(found["iw_bound"], evidence, rtol=0, atol=0.2)


def test_particles_that_a_model_would_mix_up_follow_each_other_in_the_batch():
    x = torch.randn(8, 3)
    model = Nested()  # a transposed z leaves no room before the data
    prior = GUIDES["prior"](model)
    svi = SVI(model, prior, loss=OBJECTIVES["iwae"](5))
    loss = [svi.evaluate_loss(Batch.of(x)) for _ in range(400)]
    one = [SVI(model, prior, loss=OBJECTIVES["elbo"](1)).evaluate_loss(Batch.of(x))]
    marginal = dist.Normal(0.0, (1 + 0.25) ** 0.5).log_prob(x).sum(1).mean()
    assert -marginal < torch.stack(loss).mean() < one[0]


def test_looking_at_a_model_leaves_it_as_it_was():
    class Normed(Program):
        def __init__(self):
            super().__init__()
            self.decoder = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))

        def forward(self, batch):
            with data_plate(batch):
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                likelihood = dist.Normal(self.decoder(z), 1.0).to_event(1)
                return pyro.sample("x", likelihood, obs=batch.x)

    model = Normed()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    assert describe(model).latents == {"z": (2,)}
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(part.training for part in model.modules())
