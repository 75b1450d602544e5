"""A seed holds inside a measurement; afterwards the random state is what it was, on GPUs too."""

import pyro.distributions as dist
import pytest
import torch

from experiments.data import as_data
from experiments.evaluation.aggregate import aggregate_figures
from experiments.evaluation.metrics import evaluate
from experiments.evaluation.sampling.samples import aggregate_means, prior_means
from experiments.inference.handlers import centre_of
from guides import GUIDES
from guides.latents import latents_of
from ppl_models import PPCA
from ppl_models.random_numbers import forked_rng, seeded
from ppl_models.sites import describe


@pytest.fixture
def forked(monkeypatch):
    """The GPUs that are named at every fork of the random state, as if two were in use."""
    named, fork = [], torch.random.fork_rng
    monkeypatch.setattr("ppl_models.random_numbers.gpus_in_use", lambda: [0, 1])
    monkeypatch.setattr(
        torch.random, "fork_rng", lambda devices: (named.append(devices), fork([]))[1]
    )
    return named


def test_all_gpus_in_use_are_forked(forked):
    state = torch.get_rng_state()
    with seeded(7):
        drawn = torch.rand(2)
    with forked_rng():
        went_on = torch.rand(2)
    centre_of(dist.RelaxedOneHotCategorical(torch.tensor(0.5), torch.ones(3)))
    assert forked == [[0, 1]] * 3
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(torch.rand(2), went_on)
    torch.manual_seed(7)
    assert torch.equal(torch.rand(2), drawn)


def test_measurements_and_runs_aside_fork_the_random_state(forked):
    model = PPCA(4, 2)
    guide, data = GUIDES["amortized"](model, hidden_dims=(4,)), as_data(torch.randn(6, 4))
    for aside in (
        lambda: evaluate(model, guide, data),
        lambda: aggregate_figures(model, guide, data),
        lambda: aggregate_means(model, guide, data.like(model), 2),
        lambda: prior_means(model, 2),
        lambda: describe(model),
        lambda: latents_of(model, "amortized"),
    ):
        forked.clear()
        aside()
        assert forked
        assert all(gpus == [0, 1] for gpus in forked)


def test_the_aggregate_posterior_leaves_no_draws_behind():
    model = PPCA(4, 2)
    guide, data = GUIDES["amortized"](model, hidden_dims=(4,)), as_data(torch.randn(6, 4))
    state = torch.get_rng_state()
    assert aggregate_figures(model, guide, data)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpus_state_is_what_it_was():
    like = torch.zeros(3, device="cuda")
    state = torch.cuda.get_rng_state()
    with seeded(7):
        drawn = torch.rand_like(like)
    assert torch.equal(torch.cuda.get_rng_state(), state)
    with seeded(7):
        assert torch.equal(torch.rand_like(like), drawn)
    model = PPCA(4, 2).to("cuda")
    latents_of(model, "amortized")
    with seeded():
        torch.rand_like(like)
    assert torch.equal(torch.cuda.get_rng_state(), state)
