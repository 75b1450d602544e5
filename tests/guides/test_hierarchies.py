"""Top-down and bottom-up guides of ladders of one's own, against closed forms of the evidence."""

import copy
import functools

import pyro
import pytest
import torch

from experiments.evaluation.ais import annealed_bound, sandwich
from experiments.evaluation.bounds import per_image
from experiments.evaluation.gaps import local_elbo
from experiments.evaluation.khat import khat, weights_of_draws
from experiments.evaluation.metrics import evaluate
from experiments.inference.objectives import OBJECTIVES
from experiments.inference.svi import SVI
from guides import GUIDES
from ppl_models import Batch
from tests.shared.ladders import ladder

EXACT = ("features", "no features", "positive")
"""Ladders whose posterior is an affine correction of every prior, one latent by one."""


@functools.cache
def fitted(name, guide, steps=250):
    """A frozen ladder, an affine guide fitted to its data, and log p(x)."""
    torch.set_default_dtype(torch.float64)
    model, data = ladder(name)
    torch.manual_seed(1)
    q = GUIDES[guide](model, hidden_dims=())
    adam = torch.optim.Adam(q.parameters(), 0.1, betas=(0.9, 0.99))
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    svi, batch = SVI(model, q, adam, OBJECTIVES["stl"](2)), Batch.of(data.observations())
    with pyro.validation_enabled(False):
        for _ in range(steps):
            svi.step(batch)
            rate.step()
    return model, q, data, model.evidence(data.observations())


@pytest.mark.parametrize("name", EXACT)
def test_top_down_reaches_the_posterior(name):
    model, guide, data, want = fitted(name, "top_down")
    found = per_image(model, guide, data, 50)
    for bound in ("elbo", "iw_bound"):
        assert (found[bound] - want).mean().abs() < 1e-3
    batch = Batch.of(data.observations())
    for objective in ("elbo", "stl", "iwae", "dreg", "renyi"):
        loss = OBJECTIVES[objective](3).loss(model, guide, batch) / len(want)
        assert -loss == pytest.approx(want.mean().item(), abs=5e-3)
    assert (annealed_bound(model, guide, batch, 4, 5, 2).bound - want).abs().mean() < 0.02
    closed = [OBJECTIVES["elbo_analytic_kl"]().loss(model, guide, batch) for _ in range(100)]
    mean, error = torch.tensor(closed).mean(), torch.tensor(closed).std() / 10
    assert abs(-mean - want.sum()) < 4 * error


@pytest.mark.parametrize("name", ["features", "three levels", "maps"])
def test_bottom_up_loses_what_its_family_lacks(name):
    model, guide, data, want = fitted(name, "bottom_up")
    gap = (want - per_image(model, guide, data, 2000)["elbo"]).mean()
    assert gap == pytest.approx(model.gap_across_groups, rel=0.03, abs=0.01)


OTHERS = ("three levels", "maps", "moving")


@pytest.mark.parametrize("name", OTHERS)
def test_every_estimator_finds_the_evidence(name):
    model, q, data, want = fitted(name, "top_down")
    rows, want = data.rows(8), want[:8]
    torch.manual_seed(0)
    log_w = weights_of_draws(model, q, rows, 3000)
    is_one(log_w.T - want)
    moves = name == "moving"  # its posterior touches the border: weights have long tails
    assert moves or khat(log_w).median() < 0.7
    figures = evaluate(model, q, rows, 300)
    assert figures["elbo"] < figures["iw_bound"] + 1e-6
    assert figures["iw_bound"] == pytest.approx(want.mean().item(), abs=0.1 + 0.3 * moves)
    batch = Batch.of(rows.observations())
    is_one(annealed_bound(model, q, batch, 30, 8, 3).log_weights - want)
    assert sandwich(model, q, 20, 8, 8, 3).median().abs() < 0.4


def is_one(log_ratio):
    """An importance weight is p(x) on average."""
    ratio = log_ratio.exp()
    error = ratio.std(0) / len(ratio) ** 0.5
    assert ((ratio.mean(0) - 1).abs() < 5 * error + 1e-3).all()


@pytest.mark.parametrize("guide", ["top_down", "bottom_up"])
def test_the_best_features_of_a_datum_reach_the_best_of_the_family(guide):
    model, q, data, want = fitted("features", guide)
    q, rows, want = copy.deepcopy(q), data.rows(8), want[:8]
    torch.manual_seed(0)
    for parameter in q.tower.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    lacking = 0.0 if guide == "top_down" else model.gap_across_groups
    assert (want - per_image(model, q, rows, 500)["elbo"]).mean() > lacking + 0.1
    best = local_elbo(model, q, rows, 1000, lr=0.03, most=300).elbo
    assert (want - best).mean() == pytest.approx(lacking, abs=0.05)
