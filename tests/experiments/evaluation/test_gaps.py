"""The two gaps of an amortised guide, on the oracle."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from pyro import poutine

from experiments import ppca, vae
from experiments.data import as_data
from experiments.evaluation.gaps import best_evidence, interval, local_elbo, stopping_rule
from experiments.evaluation.oracle import best_linear, diagonal_gap
from experiments.reports.gap_table import table_of_gaps
from experiments.tools import gaps
from guides import GUIDES
from ppl_models import NVAE, Batch
from tests.shared.commands import refused, run
from tests.shared.oracle import oracle


def test_at_its_best_a_diagonal_guide_gains_nothing():
    model, x = oracle((8.0, 2.0))
    local = local_elbo(model, best_linear(model), as_data(x), draws=2000)
    gap = model.marginal().log_prob(x) - local.elbo
    assert gap.mean().item() == pytest.approx(diagonal_gap(model).item(), rel=0.02)


def test_a_poor_encoder_reaches_its_family_by_itself():
    model, x = oracle((8.0, 2.0))
    guide = best_linear(model)
    with torch.no_grad():
        guide.encoder.head.weight.mul_(0.5)
        guide.encoder.head.bias.add_(0.3)
    before = {name: value.clone() for name, value in guide.state_dict().items()}
    local = local_elbo(model, guide, as_data(x), draws=2000)
    gap = model.marginal().log_prob(x) - local.elbo
    assert gap.mean().item() == pytest.approx(diagonal_gap(model).item(), rel=0.05)
    assert all(torch.equal(value, before[name]) for name, value in guide.state_dict().items())
    assert 50 < local.steps <= 3000
    assert "2000 steps" in stopping_rule(2000)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("amortized", {"covariance": "full", "hidden_dims": (4,)}),
        ("flow", {"hidden_dims": (4,), "context": 3, "width": 8}),
        ("mixture", {"hidden_dims": (4,), "components": 3}),
        ("semi_amortized", {"hidden_dims": (4,), "steps": 1}),
    ],
)
def test_every_family_gains_by_itself(name, options):
    model, x = oracle((8.0, 2.0))
    guide = GUIDES[name](model, **options)
    local = local_elbo(model, guide, as_data(x), draws=200, lr=0.1, most=2000)
    start = local_elbo(model, guide, as_data(x), draws=200, most=0)
    gaps = [(model.marginal().log_prob(x) - part.elbo).mean() for part in (start, local)]
    assert -0.05 < gaps[1] < 0.2 * gaps[0]
    # a flow's untrained transforms may be worse than none; the others contain the diagonal family
    assert gaps[1] < (2 if name == "flow" else 1.1) * diagonal_gap(model)


@pytest.mark.parametrize("name", ["top_down", "bottom_up"])
def test_a_hierarchy(name):
    model = NVAE((1, 8, 8), groups=(1, 1), latents=1, channels=4, blocks=1, cells_per_block=1)
    guide = GUIDES[name](model, cells_per_block=1)
    data = as_data(torch.rand(4, 1, 8, 8).round())
    start = local_elbo(model, guide, data, draws=200, most=0).elbo
    end = local_elbo(model, guide, data, draws=200, most=150).elbo
    assert (end > start).all()


def test_guides_without_an_encoder_have_no_amortisation():
    model, x = oracle((8.0, 2.0))
    with pytest.raises(NotImplementedError, match="Exact has no encoder"):
        local_elbo(model, GUIDES["exact"](model), as_data(x))


def test_the_interval_covers_the_mean():
    values = torch.randn(200) + 3
    low, high = interval(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(4 * values.std().item() / 200**0.5, rel=0.15)


def test_q_is_the_same_at_every_call_while_it_is_pinned():
    """Semi-amortised features have noise of their own: a density must not change with them."""
    model, x = oracle((8.0, 2.0))
    guide = GUIDES["semi_amortized"](model, hidden_dims=(4,))
    batch = Batch.of(x)

    def means():
        return poutine.trace(guide).get_trace(batch).nodes["z"]["fn"].mean

    assert not torch.equal(means(), means())
    with guide.pinned(batch):
        assert torch.equal(means(), means())
    exact = GUIDES["exact"](model)
    with exact.pinned(batch):
        assert poutine.trace(exact).get_trace(batch).nodes["z"]["value"].shape == (60, 2)


def test_the_best_estimate_is_chosen_on_average():
    values = {"a": torch.tensor([0.0, 3.0]), "b": torch.tensor([1.0, 1.0])}
    assert best_evidence(values)[0] == "a"
    exact = best_evidence(values | {"log_evidence": torch.zeros(2)})
    assert exact[0] == "exact"
    assert not exact[1].any()


def test_importance_weights_in_float64_give_a_bound_in_float64():
    """Those of the exact posterior are p(x); log K in float32 would be off by 5e-8."""
    model, x = oracle((8.0, 2.0))
    guide, data = GUIDES["exact"](model), as_data(x)
    torch.set_default_dtype(torch.float32)
    config = gaps.Config(run=Path("run"), particles=30, ais_from="none")
    told, saved = SimpleNamespace(say=print), SimpleNamespace(model=model)
    found = gaps.measured(told, saved, guide, data.like(model), config)
    torch.testing.assert_close(found["iw_bound"], found["log_evidence"], atol=1e-9, rtol=0)


def test_flows_without_an_inverse_are_refused_before_anything_is_fitted(monkeypatch):
    model = NVAE((1, 8, 8), (1, 1), 1, 4, blocks=1, cells_per_block=1, crop=0)
    guide, x = GUIDES["top_down"](model, cells_per_block=1, flows=1), torch.rand(3, 1, 8, 8)
    monkeypatch.setattr(gaps, "local_elbo", lambda *args: pytest.fail("it was fitted"))
    told, saved = SimpleNamespace(say=print), SimpleNamespace(model=model.eval())
    config = gaps.Config(run=Path("run"), particles=30)
    with pytest.raises(ValueError, match="--ais-from prior"):
        gaps.measured(told, saved, guide.eval(), as_data(x.round()).like(model), config)


SHORT = [
    "--images",
    "40",
    "--particles",
    "50",
    "--chains",
    "3",
    "--ais-steps",
    "5",
    "--leapfrog",
    "2",
    "--local-steps",
    "50",
    "--tail-images",
    "3",
    "--tail-draws",
    "2000",
]


@pytest.mark.parametrize("guide", ["amortized", "exact", "mean_field"])
def test_the_command(guide, tmp_path, monkeypatch, capsys):
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)
    fit = ["--data", "digits", "--epochs", "1", "--guide", guide, "--out", "fitted"]
    options = ["--guide.local-steps", "5"] if guide == "mean_field" else []
    run(ppca, *fit, *options)
    metrics = run(gaps, "fitted", *SHORT, "--out", "gaps")
    parts = {row["gap"]: row["nats"] for row in metrics["gaps"]}
    assert parts["total"] == pytest.approx(parts["approximation"] + parts["amortisation"])
    assert metrics["evidence"] == "exact"
    if guide != "amortized":
        assert parts["amortisation"] == 0
    assert [row["image"] for row in metrics["tails"]] == [0, 1, 2]
    assert "2000 draws each of the first 3 images" in metrics["protocol"]["tails"]
    assert "tail index of the first 3 images" in capsys.readouterr().out
    names = {path.stem for path in Path("gaps/figures").glob("*.png")}
    assert names == {"gaps", "khat", "worst"}
    stored = json.loads(Path("gaps/metrics.json").read_text())
    assert ("local" in stored["protocol"]) == (guide == "amortized")
    assert "at most 50 steps" in stored["protocol"].get("local", "at most 50 steps")
    assert stored["protocol"]["ais"].startswith("3 chains from the guide, 5 temperatures")
    refused(capsys, gaps, ["fitted", "--particles", "10", "--out", "few"], "at least 25")
    refused(capsys, gaps, ["nowhere", "--out", "no"], "nowhere")
    refused(capsys, gaps, ["fitted", "--tail-images", "-1", "--out", "no"], "--tail-images", "0")


@pytest.mark.usefixtures("without_pictures")
def test_where_q_is_not_gaussian_there_is_k_hat_alone(tmp_path, monkeypatch, capsys):
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)
    fit = ["--rows", "100", "--epochs", "1", "--guide", "mixture", "--guide.hidden-dims", "4"]
    run(ppca, "--data", "digits", *fit, "--out", "fitted")
    few = ["--images", "10", "--ais-from", "none", "--local-steps", "1"]
    metrics = run(gaps, "fitted", *SHORT, *few, "--out", "gaps")
    assert metrics["tails"] == []
    assert "tails" not in metrics["protocol"]
    said = capsys.readouterr().out
    assert "no tail index beside k-hat: Mixture is not one Gaussian vector" in said


@pytest.mark.usefixtures("without_pictures")
def test_guides_side_by_side(tmp_path, monkeypatch, capsys):
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)
    run(vae, "--data", "digits", "--rows", "100", "--epochs", "1", "--out", "v")
    own = run(gaps, "v", *SHORT, "--simulated", "5", "--out", "own")
    assert own["sandwich"]["simulated"] == 5
    rows = run(gaps, "v", *SHORT, "--guide", "mean_field", "--out", "rows")
    assert rows["guide"] == "mean_field"
    assert rows["sandwich"] is None
    found = table_of_gaps({"a": Path("own"), "b": Path("rows")})
    assert [row["guide"] for row in found.rows] == ["a", "b"]
    assert found.rows[0]["first's approximation gap minus this"] is None
    assert found.rows[1]["amortisation gap"] is None
    best = max(
        own["means"]["ais_bound"],
        own["means"]["iw_bound"],
        rows["means"]["ais_bound"],
        rows["means"]["iw_bound"],
    )
    assert f"log p(x): {best:.3f}" in found.words
    few = ["--images", "20", "--ais-from", "none", "--tail-images", "0"]
    assert run(gaps, "v", *SHORT, *few, "--out", "few")["tails"] == []
    with pytest.raises(ValueError, match="cannot share a table: number of images"):
        table_of_gaps({"a": Path("own"), "b": Path("few")})
