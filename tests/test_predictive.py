"""Posterior predictive checks."""

import pytest
import torch

from experiments import vae
from experiments.data import as_data
from experiments.evaluation.predictive import STATISTICS, replicated, tail_areas
from experiments.tools import predictive
from guides import GUIDES
from ppl_models import PPCA, Batch
from tests.test_bad_input import refused
from tests.test_commands import run


def oracle():
    truth = PPCA(6, 2)
    with torch.no_grad():
        truth.W.mul_(3)
        x = truth(Batch.draw(400))
    return PPCA.maximum_likelihood(x, 2), x


@pytest.mark.parametrize("name", ["exact", None])
def test_a_model_at_its_maximum_makes_such_data(name):
    model, x = oracle()
    guide = GUIDES[name](model) if name else None
    made = torch.stack([replicated(model, guide, as_data(x)) for _ in range(60)])
    assert made.shape == (60, 400, 6)
    rows = {row["statistic"]: row for row in tail_areas(x, made)}
    assert set(rows) == set(STATISTICS)
    for statistic in ("mean", "standard deviation", "largest eigenvalue of the covariance"):
        assert 0.01 < rows[statistic]["tail area"] < 0.99


def test_a_model_without_latents_does_not():
    model, x = oracle()
    with torch.no_grad():
        model.W.zero_()
    made = torch.stack([replicated(model, None, as_data(x)) for _ in range(30)])
    rows = {row["statistic"]: row["tail area"] for row in tail_areas(x, made)}
    assert rows["largest eigenvalue of the covariance"] == 0


def test_each_image_keeps_its_latents():
    model, x = oracle()
    near = replicated(model, GUIDES["exact"](model), as_data(x))
    far = replicated(model, None, as_data(x))
    assert (near - x).square().sum(1).mean() < 0.5 * (far - x).square().sum(1).mean()


def test_equal_sets_count_half():
    x = torch.ones(5, 3)
    assert {row["tail area"] for row in tail_areas(x, x.expand(4, 5, 3))} == {0.5}


def test_the_command(capsys, tmp_path, monkeypatch):
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)
    run(vae, "--data", "digits", "--epochs", "1", "--rows", "100", "--out", "v")
    metrics = run(predictive, "v", "--sets", "3", "--images", "20", "--out", "p")
    assert [row["statistic"] for row in metrics["checks"]] == list(STATISTICS)
    assert (tmp_path / "p/figures/replicated.png").exists()
    assert run(predictive, "v", "--sets", "2", "--latents", "prior", "--out", "q")["sets"] == 2
    few = ["v", "--sets", "40", "--images", "300", "--memory", "1e-3", "--out", "r"]
    refused(capsys, predictive, few, "more than --memory 0.001", "--sets or --images")
    assert not (tmp_path / "r/metrics.json").exists()
