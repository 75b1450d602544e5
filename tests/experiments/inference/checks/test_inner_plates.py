"""Plates inside that of the data, several observed sites and factors: all of them count."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import RenyiELBO, Trace_ELBO, TraceMeanField_ELBO
from torch import nn

from experiments.data import as_data
from experiments.evaluation.ais import annealed_bound
from experiments.evaluation.bounds import per_image
from experiments.evaluation.khat import weights_of_draws
from experiments.inference.objectives import ELBO, IWAE, OBJECTIVES, AnalyticKL, FreeBits, Renyi
from guides import GUIDES, Guide
from guides.guide import EffectGuide
from ppl_models import Batch
from ppl_models.batch import data_plate
from ppl_models.program import Program

R, K, D = 4, 2, 3


class Repeats(Program):
    """R measurements of every datum, x_r ~ N(W z, 1/4), in a plate inside the data's."""

    def __init__(self, dim=None, size=R) -> None:
        super().__init__()
        self.W, self.dim, self.size = nn.Parameter(torch.randn(D, K)), dim, size

    def rows(self, x):
        """``[B, R, D]`` with the measurements in the plate's dimension."""
        return None if x is None else x.movedim(-2, 0).unflatten(0, (-1, *(1,) * (-self.dim - 2)))

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(self.W.new_zeros(K), 1.0).to_event(1))
            with pyro.plate("repeats", R, dim=self.dim, subsample_size=self.size) as rows:
                x = self.rows(batch.x)
                x = x if x is None or self.size == R else x[rows]
                return pyro.sample("x", dist.Normal(z @ self.W.mT, 0.5).to_event(1), obs=x)

    def evidence(self, x):
        W = self.W.repeat(R, 1)
        C = W @ W.mT + 0.25 * torch.eye(R * D)
        return dist.MultivariateNormal(torch.zeros(R * D), C).log_prob(x.flatten(1)).detach()


class Posterior(Guide):
    """The exact posterior, or one that is too wide."""

    def __init__(self, model, widen=1.0) -> None:
        super().__init__(model)
        self.widen = nn.Parameter(torch.tensor(widen))

    def q(self, x):
        W = self.model.W
        precision = torch.eye(K) + 4 * R * W.mT @ W
        loc = 4 * x.sum(-2) @ W @ torch.linalg.inv(precision)
        return dist.MultivariateNormal(loc, precision_matrix=precision / self.widen**2)

    def forward(self, batch):
        with data_plate(batch):
            return pyro.sample("z", self.q(batch.x))


class AsEffect(EffectGuide):
    def __init__(self, model) -> None:
        super().__init__(model)
        self.plain = Posterior(model)

    def get_posterior(self, name, prior):
        return self.plain.q(self.args_kwargs[0][0].x)


@pytest.mark.parametrize("dim", [-2, -3])
@pytest.mark.parametrize("family", [Posterior, AsEffect])
def test_under_the_posterior_every_weight_is_the_evidence(family, dim):
    model = Repeats(dim)
    guide, x = family(model), torch.randn(6, R, D)
    want, batch = model.evidence(x), Batch(x, torch.arange(6), 30)
    for objective in (ELBO(1), ELBO(3), IWAE(1), IWAE(5), Renyi(3, 0.5)):
        loss = objective.differentiable_loss(model, guide, batch) / 30
        torch.testing.assert_close(-loss, want.mean())
    data = as_data(x.flatten(1))
    data = type(data)(x, dtype=x.dtype)
    values = per_image(model, guide, data, 7)
    for name in ("elbo", "iw_bound"):
        torch.testing.assert_close(values[name], want)
    torch.testing.assert_close(values["rate"] + values["distortion"], -want)
    torch.testing.assert_close(weights_of_draws(model, guide, data, 5), want[:, None].expand(6, 5))
    chains = annealed_bound(model, guide, Batch.of(x), 3, 4, 2)
    torch.testing.assert_close(chains.bound, want)


@pytest.mark.parametrize("name", ["stl", "dreg", "elbo_analytic_kl", "iwae", "renyi"])
def test_gradients_are_those_of_one_vector_of_all_measurements(name):
    model, flat = Repeats(-2), Repeats(-2)
    flat.W = model.W
    flat.forward = lambda batch: one_vector(flat, batch)
    guide, x = Posterior(model, widen=1.3), torch.randn(6, R, D)
    batch = Batch(x, torch.arange(6), 30)
    found = []
    for program in (model, flat):
        torch.manual_seed(0)
        loss = OBJECTIVES[name](3).differentiable_loss(program, guide, batch)
        found.append((loss, *torch.autograd.grad(loss, [model.W, guide.widen])))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def one_vector(model, batch):
    with data_plate(batch):
        z = pyro.sample("z", dist.Normal(model.W.new_zeros(K), 1.0).to_event(1))
        loc = (z @ model.W.mT).unsqueeze(-2).expand(*z.shape[:-1], R, D)
        return pyro.sample("x", dist.Normal(loc, 0.5).to_event(2), obs=batch.x)


def test_a_subsampled_plate_has_a_bound_but_no_weights():
    model = Repeats(-2, size=2)
    guide, batch = Posterior(model), Batch.of(torch.randn(6, R, D))
    torch.manual_seed(0)
    ours = ELBO().loss(model, guide, batch)
    torch.manual_seed(0)
    assert ours == pytest.approx(Trace_ELBO().loss(model, guide, batch))
    for name in ("iwae", "dreg", "renyi"):
        with pytest.raises(ValueError, match="the plate 'repeats' of site 'x' is subsampled"):
            OBJECTIVES[name](2).loss(model, guide, batch)
    data = type(as_data(torch.randn(3, 2)))(batch.x, dtype=batch.x.dtype)
    for use in (per_image, weights_of_draws):
        with pytest.raises(ValueError, match="is subsampled"):
            use(model, guide, data, 3)


class Crowded(Program):
    """A latent in a plate of its own, two observed sites, a factor; in a minibatch."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.randn(K)), nn.Parameter(torch.randn(()))

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(self.a, 1.0).to_event(1))
            pyro.factor("penalty", -self.b.exp() * z.square().sum(-1))
            with pyro.plate("parts", 3, dim=-2):
                w = pyro.sample("w", dist.Normal(z.sum(-1), 0.7))
                pyro.sample("y", dist.Normal(w * self.b, 0.4), obs=self.parts(batch.x))
            return pyro.sample("x", dist.Normal(z, 0.5).to_event(1), obs=batch.x)

    def parts(self, x):
        return None if x is None else x.sum(-1).expand(3, -1)


class OfCrowded(Program):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Parameter(torch.randn(3))

    def forward(self, batch):
        with data_plate(batch):
            pyro.sample("z", dist.Normal(batch.x * self.c[0], self.c[1].exp()).to_event(1))
            with pyro.plate("parts", 3, dim=-2):
                pyro.sample("w", dist.Normal(batch.x.sum(-1), self.c[2].exp()))


PYROS = {
    "elbo": (lambda n: ELBO(n), lambda **kw: Trace_ELBO(**kw)),
    "elbo_analytic_kl": (lambda n: AnalyticKL(n), lambda **kw: TraceMeanField_ELBO(**kw)),
    "renyi": (lambda n: Renyi(n, 0.5), lambda **kw: RenyiELBO(alpha=0.5, **kw)),
    "iwae": (lambda n: IWAE(n), lambda **kw: RenyiELBO(alpha=0.0, **kw)),
}


@pytest.mark.parametrize("name", PYROS)
def test_losses_and_gradients_are_pyros(name):
    for seed in range(10):
        torch.manual_seed(seed)
        model, guide = Crowded(), OfCrowded()
        # Pyro's Rényi bound has one weight for all data, ours one per datum
        rows = 1 if name in ("renyi", "iwae") else int(torch.randint(2, 7, ()))
        size = rows if rows == 1 else 9
        batch = Batch(torch.randn(rows, K), torch.arange(rows), size)
        parameters = [*model.parameters(), *guide.parameters()]
        ours, pyros = PYROS[name]
        n = 2 if rows == 1 else 1 + seed % 3
        torch.manual_seed(1)
        mine = ours(n).differentiable_loss(model, guide, batch)
        gradients = torch.autograd.grad(mine, parameters)
        options = {"num_particles": n, "vectorize_particles": True, "max_plate_nesting": 2}
        torch.manual_seed(1)
        with poutine.trace(param_only=True), pyro.get_param_store().scope():
            theirs = pyros(**options).loss_and_grads(model, guide, batch)
        assert mine.item() == pytest.approx(theirs, rel=1e-9)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            torch.testing.assert_close(gradient, parameter.grad, rtol=1e-9, atol=1e-9)


class Pressed(Program):
    """z ~ N(0, 1) with a factor, two observed sites: everything is a Gaussian in z."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(1.2))

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.factor("penalty", -1.5 * z.square().sum(-1))
            pyro.sample(
                "y", dist.Normal(z.sum(-1), 0.8), obs=None if batch.x is None else batch.x[:, 0]
            )
            return pyro.sample("x", dist.Normal(self.a * z, 0.5).to_event(1), obs=batch.x)

    def terms(self, z, x):
        """log p(x, y | z) with the factor, and log p(z)."""
        told = dist.Normal(z, 0.8).log_prob(x) + dist.Normal(self.a * z, 0.5).log_prob(x)
        return told - 1.5 * z**2, dist.Normal(0.0, 1.0).log_prob(z)


class Loose(Guide):
    def forward(self, batch):
        with data_plate(batch):
            return pyro.sample("z", dist.Normal(0.5 * batch.x, 0.6).to_event(1))


def test_rate_distortion_and_free_bits_count_every_observed_site_and_factor():
    model, x = Pressed(), torch.linspace(-1.0, 1.0, 5)[:, None]
    guide = Loose(model)
    nodes, weights = np.polynomial.hermite_e.hermegauss(30)
    z = 0.5 * x + 0.6 * torch.tensor(nodes)
    weights = torch.tensor(weights / weights.sum())
    told, prior = (term @ weights for term in model.terms(z, x))
    log_q = dist.Normal(0.5 * x, 0.6).log_prob(z) @ weights
    values = per_image(model, guide, as_data(x), 20_000)
    for name, want in {"distortion": -told, "rate": log_q - prior}.items():
        torch.testing.assert_close(values[name], want.detach(), atol=0.06, rtol=0)
    grid = torch.linspace(-6, 6, 2001)
    evidence = sum(model.terms(grid, x)).logsumexp(1) + math.log(12 / 2000)
    torch.testing.assert_close(values["iw_bound"], evidence.detach(), atol=0.03, rtol=0)
    by_prior = per_image(model, GUIDES["prior"](model), as_data(x), 20_000)
    torch.testing.assert_close(by_prior["iw_bound"], evidence.detach(), atol=0.06, rtol=0)
    plain, free = AnalyticKL(4000), FreeBits(4000, free_bits=0.0)
    for objective in (plain, free):
        loss = objective.loss(model, guide, Batch.of(x)) / 5
        assert loss == pytest.approx((log_q - prior - told).mean().item(), abs=0.06)
    floor = FreeBits(4000, free_bits=50.0).loss(model, guide, Batch.of(x)) / 5
    assert floor == pytest.approx(50 - told.mean().item(), abs=0.06)
