"""Posterior predictive checks."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from experiments import vae
from experiments.data import Data, as_data
from experiments.evaluation.bounds import reconstruct
from experiments.evaluation.predictive import STATISTICS, replicated_sets, tail_areas
from experiments.evaluation.sampling.samples import interpolations, prior_means
from experiments.tools import predictive
from guides import GUIDES, Guide
from ppl_models import PPCA, Batch
from ppl_models.batch import data_plate
from ppl_models.program import Program
from tests.shared.commands import refused, run


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
    made = replicated_sets(model, guide, as_data(x), 60)
    assert made.shape == (60, 400, 6)
    rows = {row["statistic"]: row for row in tail_areas(x, made)}
    assert set(rows) == set(STATISTICS)
    for statistic in ("mean", "standard deviation", "largest eigenvalue of the covariance"):
        assert 0.01 < rows[statistic]["tail area"] < 0.99


def test_a_model_without_latents_does_not():
    model, x = oracle()
    with torch.no_grad():
        model.W.zero_()
    made = replicated_sets(model, None, as_data(x), 30)
    rows = {row["statistic"]: row["tail area"] for row in tail_areas(x, made)}
    assert rows["largest eigenvalue of the covariance"] == 0


def test_each_image_keeps_its_latents():
    model, x = oracle()
    (near,) = replicated_sets(model, GUIDES["exact"](model), as_data(x))
    (far,) = replicated_sets(model, None, as_data(x))
    assert (near - x).square().sum(1).mean() < 0.5 * (far - x).square().sum(1).mean()


def test_equal_sets_count_half():
    x = torch.ones(5, 3)
    assert {row["tail area"] for row in tail_areas(x, x.expand(4, 5, 3))} == {0.5}


class Penalised(Program):
    """z ~ N(0, I), a factor of z or of x, x ~ N(z, 1/4); three measurements in an inner plate."""

    def __init__(self, factor=None) -> None:
        super().__init__()
        self.scale, self.factor = nn.Parameter(torch.tensor(0.5)), factor

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(self.scale.new_zeros(2), 1.0).to_event(1))
            seen = None if batch.x is None else batch.x.movedim(1, 0)
            with pyro.plate("measurements", 3, dim=-2):
                x = pyro.sample("x", dist.Normal(z, self.scale).to_event(1), obs=seen)
            if self.factor:
                pyro.factor("penalty", -{"z": z, "x": x[0]}[self.factor].square().sum(-1))
            return x


class At(Guide):
    """q(z | x) = N(mean of the measurements, 0.01^2)."""

    def forward(self, batch):
        with data_plate(batch):
            return pyro.sample("z", dist.Normal(batch.x.mean(1), 0.01).to_event(1))


def measured(rows=40):
    x = 5 * torch.randn(rows, 1, 2) + 0.1 * torch.randn(rows, 3, 2)
    return Data(x, dtype=x.dtype)


def test_rows_come_first_under_inner_plates():
    model, data = Penalised(), measured()
    guide, x = At(model), data.observations()
    made = replicated_sets(model, guide, data, 400, rows=7)
    assert made.shape == (400, 40, 3, 2)
    centre = x.mean(1, keepdim=True).expand_as(x)
    assert (made.mean(0) - centre).abs().max() < 5 * 0.5 / 20
    (batch,) = data.batches(40)
    torch.testing.assert_close(reconstruct(model, guide, batch), centre)
    assert prior_means(model, 6).shape == (6, 3, 2)
    shown = interpolations(model, guide, data, (0, 1), 3)["straight"]
    torch.testing.assert_close(shown[::2], centre[:2])


@pytest.mark.parametrize("factor", ["z", "x"])
def test_what_ignores_a_factor_is_refused(factor):
    model, data = Penalised(factor), measured(5)
    with pytest.raises(ValueError, match=r"a predictive check .* ignore 'penalty'"):
        replicated_sets(model, None, data)
    with pytest.raises(ValueError, match=r"sampling from the prior .* ignore 'penalty'"):
        prior_means(model, 3)


def test_at_given_latents_only_a_factor_of_x_is_ignored():
    model, data = Penalised("z"), measured(5)
    assert replicated_sets(model, At(model), data).shape == (1, 5, 3, 2)
    model = Penalised("x")
    with pytest.raises(ValueError, match=r"a predictive check .* ignore 'penalty'"):
        replicated_sets(model, At(model), data)


def test_the_command(capsys, tmp_path, monkeypatch):
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)
    run(vae, "--data", "digits", "--epochs", "1", "--rows", "100", "--out", "v")
    metrics = run(predictive, "v", "--sets", "40", "--images", "20", "--out", "p")
    assert [row["statistic"] for row in metrics["checks"]] == list(STATISTICS)
    assert (tmp_path / "p/figures/replicated.png").exists()
    assert run(predictive, "v", "--sets", "40", "--latents", "prior", "--out", "q")["sets"] == 40
    few = ["v", "--sets", "40", "--images", "300", "--memory", "1e-3", "--out", "r"]
    refused(capsys, predictive, few, "more than --memory 0.001", "--sets or --images")
    assert not (tmp_path / "r/metrics.json").exists()
