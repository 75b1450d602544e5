"""A seed holds inside a measurement; afterwards the random state is what it was, on GPUs too."""

from types import SimpleNamespace

import pytest
import torch

from experiments.data import as_data
from experiments.evaluation.aggregate import aggregate_figures
from experiments.evaluation.metrics import evaluate
from experiments.evaluation.sampling.samples import aggregate_means, prior_means
from experiments.inference.pair import seeded
from guides import GUIDES
from ppl_models import PPCA


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
