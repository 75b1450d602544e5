"""Bayesian PPCA, Pyro's guides of its parameters, NUTS, and what ArviZ makes of them."""

import shutil
from pathlib import Path

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine

from experiments import bayesian_ppca
from experiments.errors import TrainingError, UsageError
from experiments.evaluation.bayesian.arviz_adapter import (
    compare_loo,
    inference_data,
    rhat,
    save_netcdf,
)
from experiments.evaluation.bayesian.draws import (
    Posterior,
    distance,
    draws_of_guide,
    posterior,
    predictive,
    worst_rhat,
)
from experiments.inference.bayesian import mcmc
from experiments.inference.bayesian.laplace import curvature_at_mode
from experiments.inference.bayesian.mcmc import check_cost, compile_gradient, nuts
from experiments.inference.bayesian.start import at_maximum_likelihood
from experiments.inference.compiled.graph import can_compile
from experiments.inference.fit import fit
from experiments.inference.objectives import ELBO
from experiments.inference.svi import SVI
from guides.auto import AUTOGUIDES, Auto
from ppl_models import PPCA, Batch
from ppl_models.bayesian_ppca import BayesianPPCA
from tests.shared.commands import refused, run

D, K, N = 4, 2, 30


def data():
    truth = PPCA(D, 1)
    with torch.no_grad():
        truth.W.mul_(3)
        return truth(Batch.draw(N))


def latents_of(model, x=None):
    trace = poutine.trace(model).get_trace(Batch.of(data() if x is None else x))
    return {
        name: site["value"].detach()
        for name, site in trace.iter_stochastic_nodes()
        if not name.startswith("data")
    }, trace


@pytest.mark.parametrize("identified", [False, True])
def test_the_evidence_is_that_of_ppca(identified):
    model, x = BayesianPPCA(D, K, identified=identified), data()
    _, trace = latents_of(model, x)
    ppca = PPCA(D, K)
    value = {name: trace.nodes[name]["value"] for name in ("W", "mu", "sigma")}
    with torch.no_grad():
        ppca.W.copy_(value["W"]), ppca.mu.copy_(value["mu"])
        ppca.log_sigma.copy_(value["sigma"].log())
        expected = ppca.marginal().log_prob(x)
    torch.testing.assert_close(trace.nodes["x"]["fn"].log_prob(x), expected)


def test_the_triangle_leaves_no_rotation():
    _, trace = latents_of(BayesianPPCA(D, 3, identified=True))
    W = trace.nodes["W"]["value"]
    assert W.triu(1).abs().max() == 0
    assert (W.diagonal() > 0).all()


def test_explicit_latents_have_the_same_evidence():
    """log p(x, z) - log p(z | x) is log p(x), whatever z."""
    model, x = BayesianPPCA(D, K, marginal=False), data()
    latents, trace = latents_of(model, x)
    trace.compute_log_prob()
    joint = trace.nodes["x"]["log_prob"] + trace.nodes["z"]["log_prob"]
    ppca = PPCA(D, K)
    with torch.no_grad():
        ppca.W.copy_(trace.nodes["W"]["value"]), ppca.mu.copy_(latents["mu"])
        ppca.log_sigma.copy_(latents["sigma"].log())
        expected = joint - ppca.posterior(x).log_prob(latents["z"])
    evidence = BayesianPPCA(D, K).evidence(ppca.W, ppca.mu, ppca.sigma).log_prob(x)
    torch.testing.assert_close(evidence, expected)


@pytest.mark.parametrize("name", AUTOGUIDES)
def test_pyros_guides_learn_outside_the_store(name):
    model, x = BayesianPPCA(D, K, identified=True), data()
    guide = Auto(model, name)
    assert sum(p.numel() for p in guide.parameters()) > 0
    svi = SVI(model, guide, torch.optim.Adam(guide.parameters(), lr=0.05), ELBO(4))
    losses = [progress.loss for progress in fit(svi, x, 150, N)]
    assert np.mean(losses[-20:]) < np.mean(losses[:20]) - 0.5
    assert not list(pyro.get_param_store().keys())
    if name == "auto_laplace":
        curvature_at_mode(guide, Batch.of(x))
    draws = draws_of_guide(guide, Batch.of(x), 5)
    assert {name: tuple(v.shape) for name, v in draws.items() if name != "W"} == {
        "sigma": (1, 5),
        "mu": (1, 5, D),
        "s": (1, 5, K),
        "V_diagonal": (1, 5, K),
        "V_below": (1, 5, 5),
    }
    found = posterior(model, draws, x)
    assert found.log_likelihood.shape == (1, 5, N)
    assert predictive(model, found, 7, draws=3).shape == (1, 3, 7, D)
    assert (draws["sigma"].std() == 0) == (name == "auto_delta")


def test_a_guide_of_every_datum_as_well():
    model, x = BayesianPPCA(D, K, marginal=False), data()
    guide = Auto(model, "auto_normal", size=N)
    svi = SVI(model, guide, torch.optim.Adam(guide.parameters(), lr=0.05))
    losses = [progress.loss for progress in fit(svi, x, 30, batch_size=10)]
    assert np.mean(losses[-5:]) < losses[0]


def test_a_draw_is_what_the_model_says():
    model, x = BayesianPPCA(D, K), data()
    latents, trace = latents_of(model, x)
    found = posterior(model, {name: value[None, None] for name, value in latents.items()}, x)
    torch.testing.assert_close(found.W[0, 0], trace.nodes["W"]["value"])
    torch.testing.assert_close(found.log_likelihood[0, 0], trace.nodes["x"]["fn"].log_prob(x))
    torch.testing.assert_close(found.log_p[0, 0], found.log_likelihood.sum())


def test_a_mode_that_is_not_reached_is_said_to_be_none():
    model, x = BayesianPPCA(D, K, identified=True), data()
    with pytest.raises(TrainingError, match=r"mode"):
        curvature_at_mode(Auto(model, "auto_laplace"), Batch.of(x), steps=2)


@pytest.mark.parametrize("identified", [False, True])
def test_the_start_is_the_maximum_of_the_likelihood(identified):
    model, x = BayesianPPCA(D, K, identified=identified), data()
    start = at_maximum_likelihood(model, x)
    trace = poutine.trace(poutine.condition(model, start)).get_trace(Batch.of(x))
    found, best = trace.nodes["x"]["fn"], PPCA.maximum_likelihood(x, K).marginal()
    torch.testing.assert_close(found.covariance_matrix[0], best.covariance_matrix)
    torch.testing.assert_close(found.mean[0], best.mean)
    guide = Auto(model, "auto_delta", start=start)
    torch.testing.assert_close(guide(Batch.of(x))["s"], start["s"])
    chains = nuts(model, Batch.of(x), 4, 2, 1, progress=False, start=start)
    assert chains.draws["sigma"].shape == (1, 4)


def test_laplace_wants_curvature():
    with pytest.raises(ValueError, match="identified"):
        Auto(BayesianPPCA(D, K), "auto_laplace")
    with pytest.raises(ValueError, match="auto_point"):
        Auto(BayesianPPCA(D, K), "auto_point")


def compared(potential, start):
    """The graph of a potential, seen to have its values and gradients."""
    graph = compile_gradient(potential, start)
    leaves = {name: value.detach().clone().requires_grad_() for name, value in start.items()}
    for_gradient = list(leaves.values())
    energy, graphed = potential(leaves), mcmc._Graphed.of(graph, leaves)
    gradients, again = (torch.autograd.grad(e, for_gradient) for e in (energy, graphed))
    torch.testing.assert_close((graphed, *again), (energy, *gradients))
    return graph


@pytest.mark.filterwarnings("ignore")
def test_nuts_agrees_with_a_wide_guide(monkeypatch):
    """Where the data are many the posterior is nearly Gaussian: both have the same sigma."""
    monkeypatch.setattr(mcmc, "compile_gradient", compared)
    truth = PPCA(3, 1)
    with torch.no_grad():
        truth.W.fill_(2.0)
        x = truth(Batch.draw(300))
    model = BayesianPPCA(3, 1, identified=True)
    chains = nuts(
        model, Batch.of(x), draws=60, tune=60, chains=2, compile=can_compile(), progress=False
    )
    reference = posterior(model, chains.draws, x)
    assert chains.divergences < 5
    assert worst_rhat(reference)["sigma"] < 1.2
    guide = Auto(model, "auto_multivariate_normal", start=at_maximum_likelihood(model, x))
    svi = SVI(model, guide, torch.optim.Adam(guide.parameters(), lr=0.05), ELBO(4))
    for _ in fit(svi, x, 400, len(x)):
        pass
    found = posterior(model, draws_of_guide(guide, Batch.of(x), 500), x)
    assert distance(found, reference) < 0.6
    assert not list(pyro.get_param_store().keys())


def test_a_large_data_set_is_refused_with_its_cost(monkeypatch):
    monkeypatch.setattr(mcmc, "TIMED_FROM", 100)
    check_cost(BayesianPPCA(D, K), Batch.of(data()), 10)  # timed, and found to be quick
    monkeypatch.setattr(mcmc, "MOST_DAYS", 0)
    with pytest.raises(UsageError, match=r"NUTS on 30 data of 4 numbers: one gradient .* days"):
        check_cost(BayesianPPCA(D, K), Batch.of(data()), 8000)


def draws(offset=0.0):
    W, sigma = torch.randn(2, 200, D, K), torch.rand(2, 200) + 0.5
    W[1] += offset
    likelihood = torch.randn(2, 200, N) * 0.1 - 3
    return Posterior(W, torch.randn(2, 200, D), sigma, torch.rand(2, 200, K), likelihood)


def test_rhat_sees_chains_apart():
    assert worst_rhat(draws())["W W⊤"] < 1.1
    assert worst_rhat(draws(offset=3.0))["W W⊤"] > 1.2
    assert rhat(np.random.default_rng(0).normal(size=(2, 300, 3))).shape == (3,)


def test_arviz_compares_and_saves(tmp_path):
    def about(level):
        likelihood = np.random.randn(2, 100, N) * 0.1 + level
        groups = {"posterior": {"v": np.random.randn(2, 100)}}
        return inference_data(groups | {"log_likelihood": {"x": likelihood}})

    better, worse = about(-1), about(-2)
    rows = compare_loo({"worse": worse, "better": better})
    assert [row["name"] for row in rows] == ["better", "worse"]
    assert rows[0]["below the best"] == 0
    assert rows[1]["below the best"] == pytest.approx(N, rel=0.05)
    assert rows[0]["unreliable"] == 0
    save_netcdf(better, tmp_path / "a.nc")
    assert (tmp_path / "a.nc").stat().st_size > 1000


def test_the_command(tmp_path, monkeypatch, capsys):
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)
    short = ["--rows", "40", "--latent-dim", "4", "--steps", "20", "--draws", "30"]
    guides = ["--guide", "auto_delta", "auto_normal", "auto_low_rank"]
    metrics = run(bayesian_ppca, *guides, *short, "--out", "a")
    assert [row["guide"] for row in metrics["tables"]["Guides"]] == guides[1:]
    (loo,) = (table for title, table in metrics["tables"].items() if title.startswith("LOO"))
    assert {row["name"] for row in loo} == set(guides[2:])
    assert {path.name for path in Path("a").glob("*.nc")} == {f"{name}.nc" for name in guides[1:]}
    assert Path("a/figures/columns.png").exists()
    monkeypatch.setattr(mcmc, "TIMED_FROM", 700)
    monkeypatch.setattr(mcmc, "MOST_DAYS", 0)
    for words, message in {
        ("--guide", "auto_everything"): "guide 'auto_everything' is unknown",
        ("--guide", "auto_laplace"): "--identified",
        ("--guide", "nuts"): "NUTS on 40 data of 20 numbers",
        ("--latent-dim", "30"): "latent_dim=30",
        ("--draws", "3"): "--draws must be at least 4",
        ("--memory", "1e-6"): "more than --memory",
        ("--device", "cuda"): "--device",
    }.items():
        options = [*short, "--out", "b", *words]
        refused(capsys, bayesian_ppca, options, message)
        shutil.rmtree("b", ignore_errors=True)
