"""Cells computed a second time change the memory of a step and nothing else."""

import copy
import pickle
import re
from pathlib import Path

import pyro
import pytest
import torch
from torch import nn

from experiments.inference.average import WeightAverage
from experiments.inference.checkpointing import checkpoint_levels, is_checkpointed
from experiments.inference.guard import Guard
from experiments.inference.objectives import ELBO, AnalyticKL
from experiments.inference.objectives.nvae import BalancedKL, Regularised
from experiments.inference.objectives.regularisers import SpectralNorm, batch_norm_gains
from experiments.inference.optim import adamax
from experiments.inference.svi import SVI, Pair
from experiments.runs.environment import peak_memory
from guides import GUIDES
from ppl_models import PPCA, Batch
from ppl_models.nvae import NVAE
from ppl_models.nvae.cells import ResidualCell

SMALL = {"groups": (1, 2), "latents": 2, "channels": 4, "blocks": 1, "cells_per_block": 2}


def two_pairs(guide: str = "top_down", depthwise: bool = False) -> tuple[Pair, Pair]:
    """A pair and its copy, the copy checkpointed."""
    torch.manual_seed(1)
    model = NVAE((1, 8, 8), depthwise=depthwise, crop=0, **SMALL)
    plain = Pair(model, GUIDES[guide](model, cells_per_block=2))
    again = copy.deepcopy(plain)
    checkpoint_levels(again)
    return plain, again


def images(count: int = 6) -> torch.Tensor:
    return torch.rand(count, 1, 8, 8).round()


def recipe(pair: Pair) -> Regularised:
    penalties = [SpectralNorm(pair), lambda: batch_norm_gains(pair)]
    return Regularised(BalancedKL((1, 2)), penalties, 1e-2)


@pytest.mark.parametrize("guide", ["top_down", "bottom_up"])
@pytest.mark.parametrize("depthwise", [True, False])
@pytest.mark.parametrize("objective", [lambda _: ELBO(), lambda _: AnalyticKL(), recipe])
def test_a_step_is_the_same_to_the_last_digit(guide, depthwise, objective):
    batch = Batch.of(images())
    losses, pairs = [], two_pairs(guide, depthwise)
    for pair in pairs:
        torch.manual_seed(3)
        svi = SVI(pair.model, pair.guide, loss=objective(pair))
        losses.append(svi.gradients(batch))
    assert torch.equal(*losses)
    plain, again = pairs
    for (name, ours), theirs in zip(plain.named_parameters(), again.parameters(), strict=True):
        assert ours.grad is not None, name
        assert torch.equal(ours.grad, theirs.grad), name
    assert list(plain.state_dict()) == list(again.state_dict())
    for (name, ours), theirs in zip(plain.named_buffers(), again.buffers(), strict=True):
        assert torch.equal(ours, theirs), name
    norms = [part for part in again.modules() if isinstance(part, nn.BatchNorm2d)]
    assert {int(norm.num_batches_tracked) for norm in norms} == {1}


def test_steps_with_a_guard_and_an_average_are_the_same():
    plain, again = two_pairs()
    ends = []
    for pair in (plain, again):
        average = WeightAverage(pair, 0.5)
        svi = SVI(
            pair.model,
            pair.guide,
            adamax(pair.model, pair.guide),
            AnalyticKL(),
            Guard(),
            average,
            compile=False,
        )
        torch.manual_seed(5)
        for _ in range(3):
            svi.step(Batch.of(images()))
        bad = images()
        bad[0] = float("nan")
        with pyro.validation_enabled(False):
            svi.step(Batch.of(bad))
        assert svi.guard.skipped == 1
        ends.append([pair.state_dict(), average.weights.state_dict()])
    assert is_checkpointed(average.weights)
    for ours, theirs in zip(*ends, strict=True):
        for name in ours:
            assert torch.equal(ours[name], theirs[name]), name


def test_a_copy_computes_with_its_own_weights():
    _, pair = two_pairs()
    twin = copy.deepcopy(pair)
    cell = next(part for part in twin.modules() if isinstance(part, ResidualCell))
    assert cell.forward.__self__ is cell
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.zero_()
    mine = next(part for part in pair.modules() if isinstance(part, ResidualCell))
    x = torch.randn(2, cell.body[0].num_features, 8, 8)
    assert not torch.equal(mine(x), cell(x))
    assert list(pickle.loads(pickle.dumps(mine)).state_dict()) == list(mine.state_dict())


def calls_of_a_step(pair: Pair, run) -> int:
    """How often a convolution of the first cell is used while ``run`` runs."""
    calls = []
    conv = pair.guide.tower.groups[0][0].body[1]
    handle = conv.register_forward_hook(lambda *_: calls.append(1))
    run()
    handle.remove()
    return len(calls)


def test_cells_are_computed_again_in_training_alone():
    batch = Batch.of(images())
    for pair, in_training in zip(two_pairs(), (1, 2), strict=True):
        svi = SVI(pair.model, pair.guide, loss=AnalyticKL())
        assert calls_of_a_step(pair, lambda svi=svi: svi.gradients(batch)) == in_training
        assert calls_of_a_step(pair, lambda svi=svi: svi.evaluate_loss(batch)) == 1
        pair.eval()
        assert calls_of_a_step(pair, lambda svi=svi: svi.gradients(batch)) == 1


def test_fewer_numbers_are_kept_for_the_backward_pass():
    kept = []
    for pair in two_pairs():
        total = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, total=total: total.append(t.numel()) or t, lambda t: t
        ):
            AnalyticKL().differentiable_loss(pair.model, pair.guide, Batch.of(images(32)))
        kept.append(sum(total))
    assert kept[1] < 0.5 * kept[0]


def test_peak_memory_is_what_the_system_says():
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("only Linux has /proc")
    (kib,) = re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())
    peak = peak_memory(torch.device("cpu"))
    assert peak == {"peak_gib": pytest.approx(int(kib) / 2**20, rel=0.02)}


def test_what_is_checkpointed_can_be_asked():
    plain, again = two_pairs()
    assert not is_checkpointed(plain)
    assert is_checkpointed(again)
    assert is_checkpointed(again.model)
    assert is_checkpointed(again.guide)
    with pytest.raises(ValueError, match="PPCA has no residual cells"):
        checkpoint_levels(PPCA(4, 2))
