"""Objectives, handlers and SVI, tried on the oracle."""

import itertools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from torch.distributions import kl_divergence

from experiments.data import as_data, load
from experiments.evaluation.bounds import mean_and_error, per_image
from experiments.evaluation.oracle import diagonal_gap, gap_in_closed_form, rotate_to_largest_gap
from experiments.inference.fit import fit
from experiments.inference.frozen import fit_rows
from experiments.inference.handlers import Mean, ObservePixels, Temperature, TemperKL
from experiments.inference.objectives import ELBO, IWAE, OBJECTIVES, STL, AnalyticKL, DReG
from experiments.inference.optim import muon
from experiments.inference.svi import SVI
from experiments.inference.traces import log_weights
from experiments.inference.traces import traces as run_traces
from guides import GUIDES
from ppl_models import PPCA, Batch, Program, data_plate


def simulated(count=300, data_dim=12, latent_dim=4):
    truth = PPCA(data_dim, latent_dim)
    with torch.no_grad():
        truth.W.mul_(4)
        return truth(Batch.draw(count))


def oracle(x, latent_dim=4):
    model = rotate_to_largest_gap(PPCA.maximum_likelihood(x, latent_dim))
    return model.requires_grad_(False)


def test_exact_guide_gives_the_evidence_draw_by_draw():
    x = simulated()
    model = PPCA(12, 4)
    batch = Batch.of(x)
    evidence = model.marginal().log_prob(x)
    for _ in range(3):
        weights = log_weights(*run_traces(model, GUIDES["exact"](model), batch, 3), batch)
        torch.testing.assert_close(weights, evidence.expand(3, -1), rtol=0, atol=1e-9)
    assert ELBO().loss(model, GUIDES["exact"](model), batch) == pytest.approx(
        -evidence.sum().item(), abs=1e-9 * len(x)
    )


def test_exact_guide_gives_the_gradient_of_the_evidence():
    x = simulated()
    model = PPCA(12, 4)
    loss = ELBO().differentiable_loss(model, GUIDES["exact"](model), Batch.of(x))
    ours = torch.autograd.grad(loss, list(model.parameters()))
    theirs = torch.autograd.grad(-model.marginal().log_prob(x).sum(), list(model.parameters()))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


def test_gradient_is_that_of_the_same_model_written_with_pyro_param():
    x, latent_dim = simulated(), 4
    model = PPCA(12, latent_dim)
    guide = GUIDES["amortized"](model, encoder="linear")
    weight, bias = guide.encoder.layers[0].weight, guide.encoder.layers[0].bias

    def pyro_model(batch):
        W = pyro.param("W", model.W.detach().clone())
        mu = pyro.param("mu", model.mu.detach().clone())
        log_sigma = pyro.param("log_sigma", model.log_sigma.detach().clone())
        with pyro.plate("data", batch.size, subsample=batch.index):
            z = pyro.sample("z", dist.Normal(torch.zeros(latent_dim), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ W.T + mu, log_sigma.exp()).to_event(1), obs=batch.x)

    def pyro_guide(batch):
        A = pyro.param("A", weight.detach().clone())
        b = pyro.param("b", bias.detach().clone())
        with pyro.plate("data", batch.size, subsample=batch.index):
            loc, log_variance = (batch.x @ A.T + b).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, (0.5 * log_variance).exp()).to_event(1))

    index = torch.arange(0, 300, 7)
    batch = Batch(x[index], index, len(x))
    with pyro.get_param_store().scope():
        svi = pyro.infer.SVI(pyro_model, pyro_guide, pyro.optim.SGD({"lr": 1.0}), Trace_ELBO())
        torch.manual_seed(9)
        svi.step(batch)
        after = {name: value.detach().clone() for name, value in pyro.get_param_store().items()}
    ours = {"W": model.W, "mu": model.mu, "log_sigma": model.log_sigma, "A": weight, "b": bias}
    before = {name: value.detach().clone() for name, value in ours.items()}
    optim = torch.optim.SGD([*model.parameters(), *guide.parameters()], lr=1.0)
    torch.manual_seed(9)
    SVI(model, guide, optim, compile=False).step(batch)
    for name, value in ours.items():  # ours is the loss per datum: N times smaller
        change = (value - before[name]) * len(x)
        torch.testing.assert_close(change, after[name] - before[name], rtol=1e-8, atol=1e-6)


def test_kl_of_full_and_diagonal_gaussians_is_registered():
    factor = torch.randn(5, 4, 4).tril(-1) + torch.diag_embed(torch.rand(5, 4) + 0.3)
    q = dist.MultivariateNormal(torch.randn(5, 4), scale_tril=factor)
    loc, scale = torch.randn(5, 4), torch.rand(5, 4) + 0.5
    p = dist.Normal(loc, scale).to_event(1)
    dense = dist.MultivariateNormal(loc, scale_tril=torch.diag_embed(scale))
    torch.testing.assert_close(kl_divergence(q, p), kl_divergence(q, dense))


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_analytic_and_sampled_kl_agree_in_expectation(covariance):
    x = simulated(4).repeat(20, 1)  # twenty draws at a time
    model = PPCA(12, 4)
    guide = GUIDES["amortized"](model, covariance=covariance)
    batch, values = Batch.of(x), {}
    for objective in (ELBO, AnalyticKL):
        draws = torch.stack(
            [
                objective().bound(*run_traces(model, guide, batch), batch).detach()
                for _ in range(200)
            ]
        )
        values[objective] = draws
    difference = values[ELBO].mean() - values[AnalyticKL].mean()
    error = (values[ELBO].var() + values[AnalyticKL].var()).div(200).sqrt()
    assert difference.abs() < 4 * error
    assert values[ELBO].std() > 0


def test_analytic_kl_lists_the_sites_it_samples():
    class HeavyTails(Program):
        def forward(self, batch):
            with data_plate(batch):
                z = pyro.sample("z", dist.StudentT(5.0, torch.zeros(2), 1.0).to_event(1))
                return pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=batch.x)

    model = HeavyTails()
    guide = GUIDES["mean_field"](model).for_data(6)
    objective = AnalyticKL()
    objective.differentiable_loss(model, guide, Batch.of(torch.randn(6, 2)))
    assert objective.sampled_sites == ["z"]


def test_importance_weighted_bound_rises_to_the_evidence():
    x = simulated(200)
    model = oracle(x)
    guide = GUIDES["amortized"](model, encoder="linear")
    data = as_data(x)
    with torch.no_grad():
        guide.encoder.layers[0].weight.mul_(0.2)
    values = {k: per_image(model, guide, data, particles=k) for k in (1, 10, 1000)}
    bounds = [values[1]["elbo"], values[10]["iw_bound"], values[1000]["iw_bound"]]
    bounds.append(values[1]["log_evidence"])
    for lower, higher in itertools.pairwise(bounds):
        difference, error = mean_and_error(higher - lower)
        assert difference > -2 * error
    assert mean_and_error(bounds[2] - bounds[0])[0] > 0


def test_iwae_never_puts_the_subsampling_factor_inside_the_logarithm():
    x = simulated(40)
    model = PPCA(12, 4)
    guide = GUIDES["exact"](model)  # every weight is p(x)
    index = torch.arange(10)
    loss = IWAE(particles=5).loss(model, guide, Batch(x[index], index, 40))
    expected = -model.marginal().log_prob(x[index]).sum().item() * 4
    assert loss == pytest.approx(expected, rel=1e-10)


def test_prior_with_iwae_bounds_the_evidence_from_below():
    x = simulated(100)
    model = PPCA.maximum_likelihood(x, 2)
    evidence = model.marginal().log_prob(x)
    previous = torch.full_like(evidence, -math.inf)
    for particles in (10, 100, 1000):
        values = per_image(model, GUIDES["prior"](model), as_data(x), particles)
        assert values["iw_bound"].mean() > previous.mean()
        assert values["iw_bound"].mean() < evidence.mean()
        previous = values["iw_bound"]


def test_stl_has_the_gradient_of_the_elbo_on_average_and_no_noise_at_the_posterior():
    x = simulated(20)
    model = PPCA.maximum_likelihood(x, 2).requires_grad_(False)
    guide = GUIDES["full_rank"](model).for_data(20)
    batch = Batch.of(x)

    def gradients(objective, count):
        draws = []
        for _ in range(count):
            guide.zero_grad()
            objective.differentiable_loss(model, guide, batch).backward()
            draws.append(guide.table.rows.grad.to_dense())
        return torch.stack(draws)

    elbo, stl = gradients(ELBO(), 400), gradients(STL(), 400)
    error = ((elbo.var(0) + stl.var(0)) / 400).sqrt()
    assert ((elbo.mean(0) - stl.mean(0)).abs() < 4.5 * error).all()
    fit_rows(model, guide, as_data(x))
    noise = [gradients(objective, 20).std(0).mean() for objective in (STL(), ELBO())]
    assert noise[0] < 0.01 * noise[1]


def test_a_guide_that_cannot_be_reparametrised_is_refused_by_name():
    model = PPCA(12, 2)

    def guide(batch):
        with data_plate(batch):
            loc = torch.ones(3, 2, requires_grad=True)
            components = dist.Normal(loc, 1.0).to_event(1)
            pyro.sample("z", dist.MixtureSameFamily(dist.Categorical(torch.ones(3)), components))

    with pytest.raises(ValueError, match="'z' cannot be reparametrised"):
        ELBO().differentiable_loss(model, guide, Batch.of(simulated(3)))


def test_temperature_widens_the_prior_and_nothing_else():
    model = PPCA(6, 3)
    batch = Batch.draw(20000)
    with Temperature(0.5):
        trace = poutine.trace(model).get_trace(batch)
    assert trace.nodes["z"]["value"].std().item() == pytest.approx(0.5, rel=0.02)
    z = trace.nodes["z"]["value"]
    expected = model.prior().log_prob(z)
    trace.compute_log_prob()
    torch.testing.assert_close(trace.nodes["z"]["log_prob"], expected)
    for replay in (
        lambda: poutine.replay(Temperature(3.0)(model), trace=trace),  # tempered inside
        lambda: Temperature(3.0)(poutine.replay(model, trace=trace)),  # and outside
    ):
        again = poutine.trace(replay()).get_trace(batch)
        assert (again.nodes["z"]["value"] == z).all()
    with Temperature(1.0):
        torch.manual_seed(1)
        neutral = model(batch)
    torch.manual_seed(1)
    assert (neutral == model(batch)).all()


def test_temperature_is_refused_inside_an_objective_and_at_zero():
    model = PPCA(12, 2)
    guide, batch = GUIDES["exact"](model), Batch.of(simulated(3))
    with Temperature(0.7), pytest.raises(ValueError, match="not for an objective"):
        ELBO().loss(model, guide, batch)
    with pytest.raises(ValueError, match="not for an objective"):
        ELBO().loss(model, Temperature(0.7)(guide), batch)
    with pytest.raises(ValueError, match="above 0"):
        Temperature(0.0)


def test_mean_handler_gives_the_means():
    model = PPCA(12, 2)
    guide = GUIDES["amortized"](model)
    batch = Batch.of(simulated(5))
    with Mean():
        z = guide(batch)
    torch.testing.assert_close(z, guide.posterior(batch.x).mean)


def test_completion_by_conditioning_is_the_exact_posterior_of_the_observed_pixels():
    x = simulated(30)
    model = oracle(x)
    seen = torch.arange(12) < 7
    guide = GUIDES["full_rank"](model, local_steps=1500).for_data(30)
    with ObservePixels(seen):
        fit_rows(model, guide, as_data(x))
    q = poutine.trace(guide).get_trace(Batch.of(x)).nodes["z"]["fn"]
    assert kl_divergence(q, model.posterior(x, observed=seen)).max() < 1e-3


@pytest.mark.parametrize(("name", "tolerance"), [("mean_field", 0.01), ("full_rank", 0.0)])
def test_rows_reach_the_gap_of_their_family(name, tolerance):
    x = simulated(100)
    model = oracle(x)
    guide = GUIDES[name](model, local_steps=1500).for_data(100)
    fit_rows(model, guide, as_data(x))
    gap = gap_in_closed_form(model, guide, as_data(x)).mean()
    best = diagonal_gap(model) if name == "mean_field" else torch.zeros(())
    assert diagonal_gap(model) > 0.05
    assert best - 1e-9 <= gap <= best * (1 + tolerance) + (0.01 if name == "full_rank" else 0)


@pytest.mark.slow
@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_linear_encoders_reach_the_gap_of_their_family(covariance):
    x = simulated(500)
    model = oracle(x)
    guide = GUIDES["amortized"](model, encoder="linear", covariance=covariance)
    svi = SVI(model, guide, muon(model, guide), STL())
    for _ in fit(svi, x, epochs=800, batch_size=250):
        pass
    gap = gap_in_closed_form(model, guide, as_data(x)).mean()
    best = diagonal_gap(model) if covariance == "diagonal" else torch.zeros(())
    allowed = 0.01 * best if covariance == "diagonal" else 0.01
    assert best - 1e-9 <= gap <= best + allowed


def test_one_annealed_step_after_another():
    x = simulated()
    model = PPCA(12, 4)
    svi = SVI(model, GUIDES["amortized"](model), loss=AnalyticKL())
    temper = TemperKL(0.0)
    with temper:
        first = svi.evaluate_loss(Batch.of(x))
        temper.beta = 1.0
        second = svi.evaluate_loss(Batch.of(x))
    assert second > first


@pytest.mark.slow
def test_a_diagonal_guide_turns_the_learned_W_onto_its_axes():
    digits, _ = load("digits")
    gaps = {}
    for name in ("exact", "amortized"):
        torch.manual_seed(0)
        model = PPCA(64, 10)
        for _ in fit(SVI(model, GUIDES[name](model), loss=AnalyticKL()), digits, epochs=200):
            pass
        gaps[name] = diagonal_gap(model).item()
    assert gaps["exact"] > 0.1  # any rotation of W is as likely
    assert gaps["amortized"] < 0.05 * gaps["exact"]


def test_objectives_refuse_no_particles():
    for objective in OBJECTIVES.values():
        with pytest.raises(ValueError, match="at least 1"):
            objective(0)


def test_a_pair_with_nothing_to_train_yields_nothing():
    x = simulated()
    model = PPCA.maximum_likelihood(x, 2).requires_grad_(False)
    assert list(fit(SVI(model, GUIDES["exact"](model)), x)) == []


def test_a_step_gives_a_detached_tensor():
    model = PPCA(12, 2)
    svi = SVI(model, GUIDES["exact"](model))
    batch = Batch.of(simulated())
    loss = svi.step(batch)
    assert isinstance(loss, torch.Tensor)
    assert not loss.requires_grad
    assert svi.evaluate_loss(batch) < loss


def test_dreg_has_the_gradient_of_iwae_on_average_and_its_value():
    x = simulated(10).repeat(20, 1)  # twenty draws at a time
    model = PPCA(12, 2)
    guide = GUIDES["amortized"](model, encoder="linear")
    with torch.no_grad():
        guide.encoder.head.weight.normal_(0, 0.1)
        guide.encoder.head.bias.zero_()
    batch = Batch.of(x)

    def gradients(objective, count):
        draws = []
        for _ in range(count):
            model.zero_grad(), guide.zero_grad()
            objective.differentiable_loss(model, guide, batch).backward()
            parts = (*model.parameters(), *guide.parameters())
            draws.append(torch.cat([p.grad.flatten() for p in parts]))
        return torch.stack(draws)

    iwae, dreg = gradients(IWAE(3), 300), gradients(DReG(3), 300)
    error = ((iwae.var(0) + dreg.var(0)) / 300).sqrt()
    assert ((iwae.mean(0) - dreg.mean(0)).abs() < 4.5 * error + 1e-9).all()
    torch.manual_seed(5)
    first = IWAE(3).loss(model, guide, batch)
    torch.manual_seed(5)
    assert DReG(3).loss(model, guide, batch) == pytest.approx(first, abs=1e-9)
    values = [objective(1).loss(model, guide, batch) for objective in (DReG, STL)]
    assert all(map(math.isfinite, values))


def test_the_gap_in_closed_form_is_the_sampled_one():
    x = simulated(40)
    model = oracle(x)
    for name in ("exact", "mean_field", "full_rank", "amortized"):
        guide = GUIDES[name](model).for_data(40)
        gap = gap_in_closed_form(model, guide, as_data(x))
        values = per_image(model, guide, as_data(x), 2000)
        difference, error = mean_and_error(values["log_evidence"] - values["elbo"] - gap)
        assert abs(difference) < 4 * error + 1e-9
    assert gap_in_closed_form(model, GUIDES["point"](model).for_data(40), as_data(x)) is None
