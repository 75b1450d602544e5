"""Simulation-based calibration, on the oracle."""

from types import SimpleNamespace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

from experiments import ppca
from experiments.evaluation.calibration import _against_band, band, calibrate
from experiments.evaluation.oracle import best_linear
from experiments.tools import calibrate as command
from guides import GUIDES
from ppl_models import NVAE, Program, data_plate, describe
from tests.shared.commands import refused, run
from tests.shared.oracle import oracle


def test_the_posterior_is_calibrated_and_its_best_linear_guide_is_too_narrow():
    model, _ = oracle((8.0, 4.0, 2.0), 300)
    exact = calibrate(model, GUIDES["exact"](model), 4000)
    assert exact.ranks.shape == (4000, 3)
    assert exact.passed
    narrow = calibrate(model, best_linear(model), 4000)
    assert not narrow.passed
    assert (narrow.ends > 0.02).all()
    wide = best_linear(model)
    with torch.no_grad():
        wide.encoder.head.bias[3:] += 3.0
    assert (calibrate(model, wide, 2000).ends < -0.05).all()


def test_the_band_holds_as_often_as_it_says():
    lower, upper = band(500, 19, 0.9)
    rng = np.random.default_rng(1)
    paths = rng.multinomial(500, np.full(20, 1 / 20), 4000).cumsum(1)[:, :-1] / 500
    inside = ((paths >= lower) & (paths <= upper)).all(1).mean()
    assert inside == pytest.approx(0.9, abs=0.03)


def test_a_simultaneous_band_is_at_least_as_wide_as_a_pointwise_one():
    """Bonferroni over 100 000 numbers of a hierarchy; 4000 paths cannot tell such a quantile."""
    share, simulations, draws = 0.05 / 100_000, 400, 19
    lower, upper = band(simulations, draws, 1 - share)
    points = np.arange(1, draws + 1) / (draws + 1)
    low, high = np.rint(lower * simulations), np.rint(upper * simulations)
    outside = stats.binom.cdf(low - 1, simulations, points)
    outside += stats.binom.sf(high, simulations, points)
    assert outside.max() <= share


def test_a_band_that_is_hardly_ever_left_holds_as_often_as_it_says():
    lower, upper = band(400, 19, 1 - 2e-4)
    rng = np.random.default_rng(1)
    paths = rng.multinomial(400, np.full(20, 1 / 20), 200_000).cumsum(1)[:, :-1] / 400
    left = ((paths < lower) | (paths > upper)).any(1).mean()
    assert 1e-4 < left < 4e-4


def test_a_q_of_the_right_width_off_its_place_is_biased():
    model, _ = oracle((8.0, 4.0, 2.0), 300)
    guide = best_linear(model, "full")
    sd = torch.linalg.inv(model.posterior_precision()).diagonal().sqrt()
    with torch.no_grad():
        guide.encoder.head.bias[:3] += sd
    found = calibrate(model, guide, 2000)
    pairs = zip(found.outside.tolist(), found.ends.tolist(), strict=True)
    assert [command.verdict(*pair) for pair in pairs] == ["biased"] * 3


def test_a_q_that_ignores_x_is_not_called_right():
    """Its ranks are uniform for every model, since they are averaged over x."""
    model, _ = oracle((8.0, 4.0, 2.0), 300)
    found = calibrate(model, GUIDES["prior"](model), 1000, 19, level=0.9999)
    assert found.passed
    words = command.in_words([{"verdict": "calibrated"}], SimpleNamespace(simulations=1000))
    assert "A q that ignores x may pass" in words


def test_every_number_of_a_hierarchy_is_ranked():
    model = NVAE((1, 8, 8), groups=(1, 1), latents=1, channels=4, blocks=1, cells_per_block=1)
    for name in ("prior", "top_down"):
        found = calibrate(model.eval(), GUIDES[name](model), 30, 9)
        shapes = describe(model).latents.values()
        assert found.ranks.shape == (30, sum(shape.numel() for shape in shapes))
        assert found.names[0] == "z0 1"
        assert found.ranks.min() == 0
        assert found.ranks.max() == 9


def test_the_command(tmp_path, monkeypatch, capsys):
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)
    run(ppca, "--data", "digits", "--epochs", "1", "--guide", "exact", "--out", "fitted")
    metrics = run(command, "fitted", "--simulations", "1000", "--out", "calibrated")
    assert metrics["passed"]
    assert [row["verdict"] for row in metrics["calibration"]] == ["calibrated"] * 2
    rows = ["--data", "digits", "--epochs", "1", "--guide", "point", "--guide.local-steps", "2"]
    run(ppca, *rows, "--out", "rows")
    refused(capsys, command, ["rows", "--out", "no"], "a row per datum")


class Coin(Program):
    """A coin with two sides, seen through noise."""

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Bernoulli(torch.tensor([0.3])).to_event(1))
            return pyro.sample("x", dist.Normal(2 * z, 1.0).to_event(1), obs=batch.x)


class OfCoin(Program):
    """The posterior of the coin: log odds log(0.3 / 0.7) + 2 x - 2."""

    def forward(self, batch):
        with data_plate(batch):
            logits = 2 * batch.x - 2 + torch.tensor(0.3 / 0.7).log()
            pyro.sample("z", dist.Bernoulli(logits=logits).to_event(1))


def test_ranks_among_equal_draws_are_drawn():
    found = calibrate(Coin(), OfCoin(), 4000, 19)
    assert found.passed
    assert found.ranks.double().mean().item() == pytest.approx(9.5, abs=0.4)


@pytest.mark.parametrize("draws", [2, 4, 8, 9, 19])
def test_ranks_in_the_middle_are_those_of_a_wide_q(draws):
    outside, ends = _against_band(torch.full((400,), draws // 2), draws, 0.95, 1)
    assert outside > 0
    assert ends <= 0
    assert command.verdict(outside, ends) != "too narrow"
