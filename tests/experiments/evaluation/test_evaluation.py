"""What is measured on trained pairs, against closed forms, quadrature and other estimators."""

import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import kl_divergence

from experiments.data import as_data, load
from experiments.errors import UsageError
from experiments.evaluation.aggregate import active_units, aggregate_figures, aggregate_log_prob
from experiments.evaluation.bounds import mean_and_error, per_image, rows_at_a_time
from experiments.evaluation.metrics import draws_errors
from experiments.evaluation.sampling.samples import interpolations, spherical, straight, traversals
from experiments.evaluation.shared_draws import (
    between_draws_error,
    block_sizes,
    is_independent,
    log_prob_table,
    shared_draws,
)
from experiments.inference.fit import fit
from experiments.inference.frozen import frozen
from experiments.inference.objectives import STL, AnalyticKL
from experiments.inference.optim import adam
from experiments.inference.svi import SVI
from experiments.inference.traces import site_kls, traces
from guides import GUIDES
from ppl_models import PPCA, VAE, Batch
from ppl_models.likelihoods import LIKELIHOODS


@pytest.fixture(scope="module")
def trained():
    """A VAE's pair trained for a moment on digits, in float64, and the test digits."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    train, test = (part.like(VAE((1, 8, 8))) for part in load("digits"))
    model = VAE((1, 8, 8), 4, hidden_dims=(50,))
    guide = GUIDES["amortized"](model, hidden_dims=(50,))
    for _ in fit(SVI(model, guide, adam(model, guide), AnalyticKL()), train, 30, 100):
        pass
    return model.eval(), guide.eval(), train, test


def paired(a, b):
    return mean_and_error(a - b)


@pytest.mark.parametrize(("loc", "scale"), [(0.0, 1.0), (1.3, 0.2), (-0.4, 2.5)])
def test_the_kl_in_closed_form_by_quadrature_and_by_sampling_agree(loc, scale):
    """The lab's question 3.3: KL = 1/2 (sigma^2 + mu^2 - 1 - log sigma^2)."""
    nodes, weights = (torch.tensor(a) for a in np.polynomial.hermite_e.hermegauss(40))
    q, p = dist.Normal(loc, scale), dist.Normal(0.0, 1.0)
    z = loc + scale * nodes
    quadrature = (weights / weights.sum() * (q.log_prob(z) - p.log_prob(z))).sum().item()
    assert kl_divergence(q, p).item() == pytest.approx(quadrature, abs=1e-9)
    lab = 0.5 * (scale**2 + loc**2 - 1 - math.log(scale**2))
    assert lab == pytest.approx(quadrature, abs=1e-9)
    draws = q.sample((20000,))
    sampled, error = mean_and_error(q.log_prob(draws) - p.log_prob(draws))
    assert abs(sampled - quadrature) < 4 * error + 1e-12


def test_the_kl_inside_the_objective_is_the_labs(trained):
    model, guide, _, test = trained
    batch = Batch.of(test.observations()[:20])
    kls, sampled = site_kls(*traces(model, guide, batch))
    q = guide.posterior(batch.x).base_dist
    lab = 0.5 * (q.scale**2 + q.loc**2 - 1 - (q.scale**2).log()).sum(-1)
    torch.testing.assert_close(kls["z"], lab)
    assert sampled == []


def test_bounds_are_ordered_on_a_trained_vae(trained):
    model, guide, _, test = trained
    values = {k: per_image(model, guide, test, k) for k in (5, 50)}
    for tighter, looser in (
        (values[5]["iw_bound"], values[50]["elbo"]),
        (values[50]["iw_bound"], values[5]["iw_bound"]),
    ):
        difference, error = paired(tighter, looser)
        assert difference > 2 * error
    for found in values.values():
        torch.testing.assert_close(found["elbo"], -found["rate"] - found["distortion"])


def test_a_full_covariance_is_at_least_as_tight_as_a_diagonal_one(trained):
    model, _, train, _ = trained
    bounds = {}
    for covariance in ("diagonal", "full"):
        torch.manual_seed(1)
        guide = GUIDES["amortized"](model, hidden_dims=(50,), covariance=covariance)
        with frozen(model):
            for _ in fit(SVI(model, guide, adam(model, guide, 0.005), STL()), train, 60, 100):
                pass
            bounds[covariance] = per_image(model, guide, train, 50)["elbo"]
    difference, error = paired(bounds["full"], bounds["diagonal"])
    assert difference > -2 * error


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_table_of_shared_draws_is_the_log_density(name):
    family = LIKELIHOODS[name]((1, 4, 4))
    likelihood = family.distribution(torch.randn(6, family.parameters_per_pixel, 1, 4, 4))
    x = torch.rand(5, 1, 4, 4)
    x = x.round() if family.pixels == ("binary",) else x
    if name.startswith("discretized"):
        x = (x * 255).round() / 255
    x = x.reshape(5, *likelihood.event_shape)
    expected = torch.stack([likelihood.log_prob(one) for one in x])
    torch.testing.assert_close(log_prob_table(likelihood, x), expected)
    by_products = ("gaussian", "gaussian_per_pixel", "gaussian_decoder", "bernoulli")
    assert is_independent(likelihood) == (name in by_products)


def test_shared_draws_may_be_made_one_at_a_time():
    model = PPCA(5, 1)
    data = as_data(torch.randn(6, 5))
    drawn = shared_draws(model, data, 25, most=1)
    assert drawn.log_sum.shape == drawn.sum_log.shape == (20, 6)
    total = drawn.log_sum.logsumexp(0) + drawn.log_square_sum.neg() / 2
    assert (total >= 0).all()  # the weights' sum is at least the root of that of their squares


@pytest.mark.parametrize("draws", [390, 400])
def test_shared_draws_find_the_evidence_and_their_own_error(draws):
    torch.manual_seed(0)
    model = PPCA(5, 1)
    with torch.no_grad():
        x = model(Batch.draw(200))
    data, exact = as_data(x), model.marginal().log_prob(x).mean()
    estimates, errors, sizes = [], [], block_sizes(draws)
    for _ in range(40):
        drawn = shared_draws(model, data, draws, most=7)
        assert drawn.log_sum.shape == (20, 200)
        assert sum(sizes) == draws
        estimates.append(drawn.log_sum.logsumexp(0).mean() - math.log(draws))
        errors.append(between_draws_error(drawn.log_sum, sizes))
    estimates = torch.stack(estimates)
    assert (estimates.mean() - exact).abs() < 0.02
    assert torch.tensor(errors).mean() == pytest.approx(estimates.std().item(), rel=0.4)
    posterior = model.posterior(x).mean
    many = shared_draws(model, data, 20000)
    assert (many.means["z"] - posterior).abs().mean() < 0.02
    assert between_draws_error(drawn.log_sum[:9], sizes[:9]) is None


def test_the_elbo_of_the_prior_has_an_error_from_its_draws():
    torch.manual_seed(0)
    model = PPCA(5, 1)
    with torch.no_grad():
        data = as_data(model(Batch.draw(100)))
    values = [per_image(model, GUIDES["prior"](model), data, 300) for _ in range(40)]
    spread = torch.stack([value["elbo"].mean() for value in values]).std().item()
    errors = [draws_errors(value, 300)["elbo_draws_se"] for value in values]
    assert np.mean(errors) == pytest.approx(spread, rel=0.4)


def test_a_narrow_likelihood_keeps_its_digits_in_float32():
    torch.manual_seed(0)
    loc = torch.rand(4, 1, 28, 28).float()
    likelihood = dist.Normal(loc, torch.full_like(loc, 1 / 255)).to_event(3)
    x = loc + torch.randn_like(loc) / 255
    exact = dist.Normal(loc.double(), likelihood.base_dist.scale.double()).to_event(3)
    found = log_prob_table(likelihood, x).diagonal()
    assert (found - exact.log_prob(x.double())).abs().max() < 1e-6


def test_the_table_of_shared_draws_keeps_its_digits_far_from_the_origin():
    loc = 1e7 + torch.rand(4, 1, 8, 8)
    likelihood = dist.Normal(loc, torch.full_like(loc, 0.01)).to_event(3)
    found = log_prob_table(likelihood, loc + 0.01)
    wanted = torch.stack([likelihood.log_prob(one + 0.01) for one in loc])
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-4)


def test_certain_binary_pixels_keep_their_digits_in_float32():
    logits = (20 * torch.randn(3, 1, 28, 28)).float()
    likelihood = dist.Bernoulli(logits=logits).to_event(3)
    x = (logits > 0).float()
    exact = dist.Bernoulli(logits=logits.double()).to_event(3).log_prob(x.double())
    found = log_prob_table(likelihood, x).diagonal()
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-5)


def test_the_prior_is_measured_from_shared_draws(trained):
    model, _, _, test = trained
    values = per_image(model, GUIDES["prior"](model), test, 1000)
    assert values["log_sum"].shape == (len(test), 20)
    assert (values["iw_bound"] >= values["elbo"]).all()
    sizes = values["effective_sample_size"]
    assert ((sizes > 1 - 1e-9) & (sizes <= 1000 + 1e-6)).all()
    assert (values["rate"] == 0).all()


def test_a_memory_too_small_for_one_image_is_refused(trained):
    model, guide, _, test = trained
    for q in (guide, GUIDES["prior"](model)):
        with pytest.raises(UsageError, match="too small for one image"):
            per_image(model, q, test, 10, memory=1e-9)


def test_rows_at_a_time_go_with_memory(trained):
    model, _, _, test = trained
    numbers = 64  # of a digit, eight copies of eight bytes
    assert rows_at_a_time(model, test, 1.0, 500) == 500
    assert rows_at_a_time(model, test, 10.5 * 64 * numbers / 2**30, 500) == 10


def test_the_memory_limit_does_not_change_what_is_measured(trained):
    model, guide, _, test = trained
    bounds = [per_image(model, guide, test, 40, memory)["iw_bound"] for memory in (1.0, 3e-4)]
    difference, error = paired(*bounds)
    assert abs(difference) < 4 * error


def test_the_aggregate_posterior_of_one_row_is_its_posterior():
    q = dist.Normal(torch.tensor([[0.3, -1.0]]), torch.tensor([[0.5, 2.0]])).to_event(1)
    z = torch.randn(7, 2)
    torch.testing.assert_close(aggregate_log_prob([q], z), q.log_prob(z))
    both = dist.Normal(torch.zeros(2, 2), torch.tensor([[1.0, 1.0], [2.0, 2.0]])).to_event(1)
    parts = [dist.Normal(torch.zeros(1, 2), scale).to_event(1) for scale in (1.0, 2.0)]
    torch.testing.assert_close(aggregate_log_prob([both], z), aggregate_log_prob(parts, z))


def test_the_aggregate_posterior_of_the_true_model_is_the_prior():
    torch.manual_seed(0)
    model = PPCA(6, 2)
    with torch.no_grad():
        data = as_data(model(Batch.draw(2000)))
    for name in ("exact", "prior"):
        found = aggregate_figures(model, GUIDES[name](model), data)
        if name == "prior":
            assert found == {}
            continue
        assert found["active_units"] == 2
        assert abs(found["aggregate_kl"]) < 4 * found["aggregate_kl_se"] + 0.05
    assert active_units(torch.stack([torch.randn(50), 1e-3 * torch.randn(50)], 1)) == 1


def test_the_way_between_two_latents():
    a, b = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 1.0])
    for way in (straight, spherical):
        points = way(a, b, 5)
        torch.testing.assert_close(points[[0, -1]], torch.stack([a, b]))
    torch.testing.assert_close(spherical(a, b, 5).norm(dim=1), torch.linspace(3, 1, 5))
    torch.testing.assert_close(spherical(a, b, 3)[1], torch.full((2,), 2 / 2**0.5))
    for c in (-a, 2 * a, torch.zeros(2)):  # no arc: the line
        torch.testing.assert_close(spherical(a, c, 4), straight(a, c, 4))


def test_interpolations_end_at_the_reconstructions_and_traversals_move_one_latent(trained):
    model, guide, _, test = trained
    shown = interpolations(model, guide, test, (3, 7), 5)
    z = guide.posterior(test.observations()[[3, 7]]).mean
    ends = model.likelihood.distribution(model.decoder(z)).mean
    for images in shown.values():
        torch.testing.assert_close(images[[0, -1]], ends.detach())
    rows = traversals(model, z[0].detach(), 7)
    assert rows.shape == (4, 7, 1, 8, 8)
    moved = z[0].detach().clone()
    moved[2] = -3.0
    expected = model.likelihood.distribution(model.decoder(moved)).mean
    torch.testing.assert_close(rows[2, 0], expected.detach())
