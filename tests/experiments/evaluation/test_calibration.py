"""Simulation-based calibration, on the oracle."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from experiments import ppca
from experiments.evaluation.calibration import _against_band, band, calibrate
from experiments.evaluation.oracle import best_linear, rotate_to_largest_gap
from experiments.tools import calibrate as command
from guides import GUIDES
from ppl_models import NVAE, PPCA, Batch, Program, data_plate, describe
from tests.shared.commands import refused, run


def oracle():
    truth = PPCA(8, 3)
    with torch.no_grad():
        truth.W.mul_(torch.tensor([8.0, 4.0, 2.0]))
        x = truth(Batch.draw(300))
    return rotate_to_largest_gap(PPCA.maximum_likelihood(x, 3)).requires_grad_(False)


def test_the_posterior_is_calibrated_and_its_best_linear_guide_is_too_narrow():
    model = oracle()
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
