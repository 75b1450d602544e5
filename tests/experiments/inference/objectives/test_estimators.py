"""Every estimator's mean gradient is the gradient of its own K-sample objective."""

import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch

from experiments.data import as_data
from experiments.evaluation.bounds import per_image
from experiments.evaluation.oracle import diagonal_gap, rotate_to_largest_gap
from experiments.inference.fit import fit
from experiments.inference.objectives import (
    ELBO,
    IWAE,
    STL,
    AnalyticKL,
    DReG,
    FreeBits,
    Miselbo,
    Renyi,
    check_objective,
)
from experiments.inference.svi import SVI, Pair
from guides import GUIDES
from ppl_models import PPCA, Batch
from ppl_models.nvae import NVAE

X = torch.tensor([[0.7, -1.2, 0.4]], dtype=torch.float64)
NODES, WEIGHTS = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(40))
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def amortized():
    model = PPCA(3, 1)
    guide = GUIDES["amortized"](model, hidden_dims=(4,), activation="silu")
    return Pair(model, guide)


def log_joint(model, z):
    """log p(x, z) of the datum at scalars z, any shape."""
    prior = dist.Normal(0.0, 1.0).log_prob(z)
    loc = z.unsqueeze(-1) * model.W[:, 0] + model.mu
    return prior + dist.Normal(loc, model.log_sigma.exp()).log_prob(X[0]).sum(-1)


def log_weight(pair, eps):
    q = pair.guide.posterior(X).base_dist
    z = (q.loc + q.scale * eps.unsqueeze(-1))[..., 0]
    return log_joint(pair.model, z) - dist.Normal(q.loc[0, 0], q.scale[0, 0]).log_prob(z)


def power_mean(pair, alpha):
    """The objective of two draws, by quadrature over both."""
    log_w = torch.stack(
        torch.broadcast_tensors(log_weight(pair, NODES)[:, None], log_weight(pair, NODES)[None, :])
    )
    if alpha == 1:
        value = log_w.mean(0)
    else:
        value = (((1 - alpha) * log_w).logsumexp(0) - math.log(2)) / (1 - alpha)
    return (value * WEIGHTS[:, None] * WEIGHTS[None, :]).sum()


def free_bits(pair, floor):
    q = pair.guide.posterior(X).base_dist
    distortion = -(
        log_joint(pair.model, z := (q.loc + q.scale * NODES)[0])
        - dist.Normal(0.0, 1.0).log_prob(z)
    )
    kl = torch.distributions.kl_divergence(q, dist.Normal(0.0, 1.0)).sum()
    return -(distortion * WEIGHTS).sum() - kl.clamp(min=floor)


def mean_and_error(pair, objective, batches=60, rows=300):
    """The mean gradient over batches of one datum many times over, and its standard error."""
    batch = Batch.of(X.expand(rows, 3))
    gradients = []
    for _ in range(batches):
        pair.zero_grad()
        (objective.differentiable_loss(pair.model, pair.guide, batch) / rows).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in pair.parameters()]))
    stacked = torch.stack(gradients)
    return stacked.mean(0), stacked.std(0) / math.sqrt(batches)


CASES = {
    "elbo": (ELBO(2), lambda pair: power_mean(pair, 1.0)),
    "elbo_analytic_kl": (AnalyticKL(2), lambda pair: power_mean(pair, 1.0)),
    "stl": (STL(2), lambda pair: power_mean(pair, 1.0)),
    "iwae": (IWAE(2), lambda pair: power_mean(pair, 0.0)),
    "dreg": (DReG(2), lambda pair: power_mean(pair, 0.0)),
    "renyi 0.5": (Renyi(2, 0.5), lambda pair: power_mean(pair, 0.5)),
    "renyi 1": (Renyi(2, 1.0), lambda pair: power_mean(pair, 1.0)),
    "renyi 2": (Renyi(2, 2.0), lambda pair: power_mean(pair, 2.0)),
    "free bits, kept": (FreeBits(2, 0.001), lambda pair: free_bits(pair, 0.001)),
    "free bits, free": (FreeBits(2, 50.0), lambda pair: free_bits(pair, 50.0)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_mean_gradient_is_that_of_the_objective(name):
    objective, by_quadrature = CASES[name]
    pair = amortized()
    mean, error = mean_and_error(pair, objective)
    pair.zero_grad()
    (-by_quadrature(pair)).backward()
    exact = torch.cat(
        [
            torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten()
            for p in pair.parameters()
        ]
    )
    assert error.max() > 0
    assert ((mean - exact).abs() <= 4 * error + 1e-12).all()


@pytest.mark.parametrize("components", [0, 1])
def test_the_mean_gradient_of_a_mixture(components):
    model = PPCA(3, 1)
    pair = Pair(model, GUIDES["mixture"](model, components=2, hidden_dims=(4,)))
    mean, error = mean_and_error(pair, Miselbo(1, components), batches=200, rows=200)
    pair.zero_grad()
    q = pair.guide.posterior(X)
    normals = q.component_distribution.base_dist
    z = normals.loc[0] + normals.scale[0] * NODES  # [S, nodes]
    value = log_joint(model, z) - q.log_prob(z.flatten()[:, None]).reshape(z.shape)
    (-(value * WEIGHTS).sum(1).mean()).backward()
    exact = torch.cat([p.grad.flatten() for p in pair.parameters()])
    assert ((mean - exact).abs() <= 4 * error + 1e-12).all()


def test_renyi_between_its_neighbours():
    pair = amortized()
    batch = Batch(X.expand(50, 3), torch.arange(50), 200)

    def value(objective):
        torch.manual_seed(4)
        return objective.differentiable_loss(pair.model, pair.guide, batch)

    torch.testing.assert_close(value(Renyi(3, 0.0)), value(IWAE(3)))
    torch.testing.assert_close(value(Renyi(3, 1.0)), value(ELBO(3)))
    losses = [value(Renyi(3, alpha)).item() for alpha in (0.0, 0.5, 1.0, 2.0, 5.0)]
    assert losses == sorted(losses)
    for alpha in (-0.1, math.inf, math.nan):
        with pytest.raises(ValueError, match="alpha"):
            Renyi(3, alpha)


def test_free_bits_at_zero_is_the_analytic_bound_and_groups_are_floored_in_a_hierarchy():
    pair = amortized()
    batch = Batch(X.expand(5, 3), torch.arange(5), 20)

    def value(objective, model, guide, batch):
        torch.manual_seed(4)
        return objective.differentiable_loss(model, guide, batch)

    for particles in (1, 3):
        torch.testing.assert_close(
            value(FreeBits(particles, 0.0), pair.model, pair.guide, batch),
            value(AnalyticKL(particles), pair.model, pair.guide, batch),
        )
    model = NVAE((1, 8, 8), groups=(1, 2), latents=2, channels=4, blocks=1, cells_per_block=1)
    model.eval()
    guide = GUIDES["top_down"](model, cells_per_block=1).eval()
    images = Batch.of(torch.rand(3, 1, 8, 8).round())
    for particles in (1, 2):
        plain = value(AnalyticKL(particles), model, guide, images)
        zero = value(FreeBits(particles, 0.0), model, guide, images)
        torch.testing.assert_close(zero, plain)
    floored = value(FreeBits(1, 1e4), model, guide, images)
    distortion = value(FreeBits(1, 0.0), model, guide, images)  # with the KL
    assert floored > distortion
    with pytest.raises(ValueError, match="free_bits=-1"):
        FreeBits(1, -1)


@pytest.mark.parametrize(
    ("guide", "options"), [("top_down", {"flows": 1}), ("top_down_mixture", {})]
)
def test_no_free_bits_are_the_bound_where_a_kl_at_the_sample_is_negative(guide, options):
    model = NVAE((1, 8, 8), (1, 2), 2, 4, blocks=1, cells_per_block=1, crop=0, lean=True).eval()
    guide = GUIDES[guide](model, cells_per_block=1, **options).eval()  # it starts at the prior
    images = Batch.of(torch.rand(3, 1, 8, 8).round())
    for seed in range(10):
        losses = []
        for objective in (FreeBits(1, 0.0), AnalyticKL()):
            torch.manual_seed(seed)
            losses.append(objective.differentiable_loss(model, guide, images))
        torch.testing.assert_close(*losses)


def test_a_flow_comes_closer_than_the_best_linear_gaussian():
    truth = PPCA(8, 2)
    with torch.no_grad():
        truth.W.mul_(torch.tensor([8.0, 2.0]))
        x = truth(Batch.draw(200))
    model = rotate_to_largest_gap(PPCA.maximum_likelihood(x, 2)).requires_grad_(False)
    guide = GUIDES["flow"](model, hidden_dims=(32,), context=8, width=32)
    for _ in fit(SVI(model, guide), as_data(x), epochs=1200, batch_size=200):
        pass
    found = per_image(model, guide, as_data(x), particles=100)
    gap = (found["log_evidence"] - found["elbo"]).mean().item()
    assert -0.01 < gap < 0.5 * diagonal_gap(model)


def test_which_objective_fits_which_guide():
    check_objective("mixture", "miselbo", "miselbo")
    check_objective("flow", "elbo", "renyi")
    for guide, objective, words in (
        ("mixture", "elbo", "takes miselbo"),
        ("amortized", "miselbo", "does not fit guide 'amortized', which takes elbo"),
        ("amortized", "log_joint", "does not fit"),
        ("amortized", "none", "is unknown"),
    ):
        with pytest.raises(ValueError, match=words):
            check_objective(guide, GUIDES[guide].objective, objective)
    pair = amortized()
    with pytest.raises(ValueError, match="miselbo is for mixtures"):
        Miselbo().differentiable_loss(pair.model, pair.guide, Batch.of(X))


@pytest.mark.parametrize(
    ("guide", "options", "words"),
    [
        ("flow", {"length": 0}, "length=0"),
        ("flow", {"transform": "spline"}, "autoregressive, coupling"),
        ("mixture", {"components": 0}, "components=0"),
        ("mixture", {"hidden_dims": ()}, "hidden_dims"),
    ],
)
def test_bad_options(guide, options, words):
    with pytest.raises(ValueError, match=words):
        GUIDES[guide](PPCA(5, 2), **options)
    with pytest.raises(ValueError, match="dimension 1"):
        GUIDES["flow"](PPCA(5, 1))


def test_steps_of_its_own_bring_a_poor_encoder_closer():
    truth = PPCA(8, 2)
    with torch.no_grad():
        x = truth(Batch.draw(100))
    model = PPCA.maximum_likelihood(x, 2).requires_grad_(False)
    elbos = {}
    for steps in (1, 20, 200):
        torch.manual_seed(0)
        guide = GUIDES["semi_amortized"](model, steps=steps, hidden_dims=(4,))
        torch.manual_seed(1)
        elbos[steps] = per_image(model, guide, as_data(x), particles=20)["elbo"].mean().item()
    assert elbos[1] < elbos[20] < elbos[200]
    evidence = model.marginal().log_prob(x).mean().item()
    assert evidence - elbos[200] < 0.2 * (evidence - elbos[1])
    assert model.training


@pytest.mark.parametrize("through", [False, True])
def test_gradients_through_the_steps_or_straight_through(through):
    torch.manual_seed(0)
    model = PPCA(4, 2).requires_grad_(False)
    guide = GUIDES["semi_amortized"](model, steps=2, hidden_dims=(3,), through=through)
    batch = Batch.of(torch.randn(5, 4))
    parameters = guide.encoder(batch.x).detach().requires_grad_()
    torch.manual_seed(2)
    refined = guide.refined(parameters, batch)
    (gradient,) = torch.autograd.grad(refined.sum(), parameters)
    assert torch.equal(gradient, torch.ones_like(gradient)) != through
    if through:  # by finite differences

        def total(values):
            torch.manual_seed(2)
            return guide.refined(values, batch).sum().item()

        step = torch.zeros_like(parameters)
        step[1, 2] = 1e-5
        slope = (total(parameters + step) - total(parameters - step)) / 2e-5
        assert gradient[1, 2].item() == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("alpha", [1 - 1e-7, 1 + 1e-7])
def test_renyi_tends_to_the_elbo(alpha):
    """In float32, the log of a mean power that is nearly one has no digits to be divided by."""
    torch.manual_seed(0)
    pair, losses = amortized().float(), []
    for order in (alpha, 1.0):
        torch.manual_seed(1)
        svi = SVI(pair.model, pair.guide, loss=Renyi(5, order))
        losses.append(svi.evaluate_loss(Batch.of(X.float())))
    torch.testing.assert_close(*losses, atol=1e-4, rtol=1e-5)
