"""A seed holds inside a measurement; afterwards the random state is what it was, on GPUs too."""

from types import SimpleNamespace

import pyro.distributions as dist
import pytest
import torch

from experiments.data import as_data
from experiments.evaluation.aggregate import aggregate_figures
from experiments.evaluation.metrics import evaluate
from experiments.evaluation.sampling.samples import aggregate_means, prior_means
from experiments.inference.handlers import centre_of
from experiments.inference.pair import seeded
from experiments.teaching import rubric
from guides import GUIDES
from guides.latents import latents_of
from ppl_models import PPCA
from ppl_models.sites import describe


def test_the_gpus_that_tensors_lie_on_are_forked(monkeypatch):
    forked, fork = [], torch.random.fork_rng
    monkeypatch.setattr(
        torch.random, "fork_rng", lambda devices: (forked.append(devices), fork([]))[1]
    )
    state = torch.get_rng_state()
    on_gpu = SimpleNamespace(is_cuda=True, get_device=lambda: 3)
    with seeded(7, on_gpu, torch.zeros(1)):
        drawn = torch.rand(2)
    assert forked == [[3]]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(7)
    assert torch.equal(torch.rand(2), drawn)


def test_measurements_name_what_they_draw_on(monkeypatch):
    model = PPCA(4, 2)
    guide, data = GUIDES["amortized"](model, hidden_dims=(4,)), as_data(torch.randn(6, 4))
    named = []
    monkeypatch.setattr(
        "experiments.inference.pair.cuda_devices", lambda *tensors: named.append(tensors) or []
    )
    for measured in (
        lambda: evaluate(model, guide, data),
        lambda: aggregate_figures(model, guide, data),
        lambda: aggregate_means(model, guide, data.like(model), 2),
        lambda: prior_means(model, 2),
    ):
        named.clear()
        measured()
        assert named
        assert all(named)


def test_runs_aside_name_what_they_draw_on(monkeypatch):
    model, named = PPCA(4, 2), []
    for module, run in (
        ("ppl_models.sites", lambda: describe(model)),
        ("guides.latents", lambda: latents_of(model, "amortized")),
    ):
        named.clear()
        with monkeypatch.context() as patch:
            patch.setattr(f"{module}.cuda_devices", lambda *t: named.append(t) or [])
            run()
        assert named
        assert all(named)


def test_all_gpus_are_forked_where_none_is_named(monkeypatch):
    forked, fork = [], torch.random.fork_rng
    monkeypatch.setattr(
        torch.random, "fork_rng", lambda devices: (forked.append(devices), fork([]))[1]
    )
    for module in ("experiments.teaching.rubric", "experiments.inference.handlers"):
        monkeypatch.setattr(f"{module}.gpus_in_use", lambda: [0, 1])
    state = torch.get_rng_state()
    with rubric.seeded():
        torch.rand(2)
    centre_of(dist.RelaxedOneHotCategorical(torch.tensor(0.5), torch.ones(3)))
    assert forked == [[0, 1], [0, 1]]
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpus_state_is_what_it_was():
    like = torch.zeros(3, device="cuda")
    state = torch.cuda.get_rng_state()
    with seeded(7, like):
        drawn = torch.rand_like(like)
    assert torch.equal(torch.cuda.get_rng_state(), state)
    with seeded(7, like):
        assert torch.equal(torch.rand_like(like), drawn)
    model = PPCA(4, 2).to("cuda")
    latents_of(model, "amortized")
    with rubric.seeded():
        torch.rand_like(like)
    assert torch.equal(torch.cuda.get_rng_state(), state)
