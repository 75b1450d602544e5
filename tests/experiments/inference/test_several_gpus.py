"""What ``start_together`` makes of batch norms where several processes train on GPUs."""

from types import SimpleNamespace

import pytest
import torch

from experiments.inference import parallel
from experiments.inference.checkpointing import checkpoint_levels
from experiments.inference.objectives import AnalyticKL
from experiments.inference.objectives.regularisers import batch_norm_gains
from experiments.inference.svi import SVI, Pair
from guides import GUIDES
from ppl_models import NVAE, Batch

SMALL = {"groups": (1, 2), "latents": 2, "channels": 4, "blocks": 1, "cells_per_block": 1}


@pytest.fixture
def pair() -> Pair:
    model = NVAE((1, 8, 8), depthwise=False, crop=0, **SMALL)
    pair = Pair(model, GUIDES["top_down"](model, cells_per_block=1))
    for parameter in pair.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return pair


def on_several_gpus(pair: Pair, monkeypatch) -> None:
    """As there; without a process group synchronised norms see the rows of their own process."""
    found = [SimpleNamespace(is_cuda=True)]
    svi = SimpleNamespace(model=pair.model, guide=pair.guide, average=None, parameters=found)
    with monkeypatch.context() as patch:
        patch.setattr(parallel, "world_size", lambda: 2)
        patch.setattr(parallel.processes, "broadcast", lambda *_: None)
        parallel.start_together(svi)


def loss_of(pair: Pair, batch: Batch) -> torch.Tensor:
    torch.manual_seed(3)
    with torch.no_grad():
        return AnalyticKL().differentiable_loss(pair.model, pair.guide, batch)


@pytest.mark.parametrize("training", [False, True])
def test_the_network_stays_the_same(pair, training, monkeypatch):
    batch = Batch.of(torch.rand(6, 1, 8, 8).round())
    pair.train(training)
    before = loss_of(pair, batch)
    on_several_gpus(pair, monkeypatch)
    torch.testing.assert_close(loss_of(pair, batch), before)


def test_gains_are_still_penalised(pair, monkeypatch):
    before = batch_norm_gains(pair)
    on_several_gpus(pair, monkeypatch)
    torch.testing.assert_close(batch_norm_gains(pair), before)


def test_cells_computed_twice_move_running_means_once(pair, monkeypatch):
    checkpoint_levels(pair)
    on_several_gpus(pair, monkeypatch)
    svi = SVI(pair.model, pair.guide, loss=AnalyticKL())
    svi.gradients(Batch.of(torch.rand(6, 1, 8, 8).round()))
    counts = {int(b) for name, b in pair.named_buffers() if name.endswith("num_batches_tracked")}
    assert counts == {1}
