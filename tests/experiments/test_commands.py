"""Each command runs for two steps; what it leaves is valid, and the same the second time."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments import compare, nonlinear, pca, ppca, reproduce, train, vae
from experiments.evaluation.bounds import ENCODING_DRAWS
from experiments.runs.checkpoint import latest
from experiments.runs.cli import cli
from experiments.tools import bench, evaluate, reconstruct, refit, sample
from tests.shared.commands import SHORT, run, without_times
from tests.shared.pictures import undrawn
from tests.shared.runs import copied, stopped

QUICK = ["--guide.local-steps", "5"]


pytestmark = pytest.mark.usefixtures("in_a_folder")


@pytest.fixture
def trained() -> str:
    return str(copied("trained", ppca, [*SHORT, "--guide", "amortized"]))


@pytest.mark.parametrize(
    "guide", ["prior", "point", "exact", "mean_field", "full_rank", "amortized"]
)
def test_ppca_under_every_guide_twice(guide):
    args = [
        *SHORT,
        "--guide",
        guide,
        *(QUICK if guide in ("point", "mean_field", "full_rank") else []),
    ]
    first = run(ppca, *args, "--out", "a")
    with undrawn():
        second = run(ppca, *args, "--out", "b")
    assert without_times(first) == without_times(second)
    assert first["guide"] == guide
    assert ("log_joint" in first["test"]) == (guide == "point")
    assert (first["test"]["elbo"] is None) == (guide == "point")
    assert (first["test"]["iw_bound"] is None) == (guide != "prior")
    how = {"exact": "exact", "prior": "shared_draws"}.get(guide, "monte_carlo")
    assert first["protocol"]["estimator"] == how
    names = {path.stem for path in Path("a/figures").iterdir()}
    assert {"encodings", "reconstructions", "samples", "columns_of_W"} <= names
    if guide != "point":
        assert len(Path("a/metrics.jsonl").read_text().splitlines()) == 2
    assert list(Path("a/tensorboard").iterdir())


def test_ppca_without_gradients():
    closed = run(ppca, "--data", "digits", "--method", "closed_form", "--out", "a")
    em = run(ppca, "--data", "digits", "--method", "em", "--epochs", "200", "--out", "b")
    assert closed["test"]["elbo"] == pytest.approx(closed["test"]["log_evidence"], abs=1e-3)
    assert em["train"]["log_evidence"] == pytest.approx(closed["train"]["log_evidence"], abs=1e-3)
    assert closed["epochs"] == 0


def test_pca_of_equal_images(tmp_path):
    np.save("equal.npy", np.full((20, 8, 8), 0.25, dtype="float32"))
    metrics = run(pca, "--data", "equal.npy", "--latent-dim", "2", "--out", "a")
    assert metrics["test"]["squared_error"] == 0
    assert "squared error of 0 per test row." in (tmp_path / "a/report.html").read_text()


def test_pca():
    metrics = run(pca, "--data", "digits", "--latent-dim", "5", "--out", "a")
    assert metrics["test"]["squared_error"] == pytest.approx(1.9, rel=0.2)


def test_train_takes_a_model_of_ones_own(tmp_path):
    Path("ownmodel.py").write_text(
        "import pyro, torch\n"
        "import pyro.distributions as dist\n"
        "from ppl_models import Program, data_plate\n"
        "class Scaled(Program):\n"
        "    def __init__(self, data_dim, latent_dim: int = 2, scale: float = 0.5):\n"
        "        super().__init__()\n"
        "        self.W = torch.nn.Parameter(torch.randn(data_dim, latent_dim))\n"
        "        self.scale = scale\n"
        "    def forward(self, batch):\n"
        "        with data_plate(batch):\n"
        "            prior = dist.Normal(self.W.new_zeros(self.W.shape[1]), 1.).to_event(1)\n"
        "            z = pyro.sample('z', prior)\n"
        "            x = dist.Normal(z @ self.W.mT, self.scale).to_event(1)\n"
        "            return pyro.sample('x', x, obs=batch.x)\n"
    )
    args = [*SHORT, "--model", "ownmodel:Scaled", "--scale", "0.7", "--latent-dim", "3"]
    metrics = run(train, *args, "--guide", "amortized", "--guide.hidden-dims", "8", "--out", "a")
    assert metrics["model"] == "ownmodel:Scaled"
    assert metrics["test"]["log_evidence"] is None
    own = ["--model", "ownmodel:Scaled", "--particles", "5"]
    assert run(evaluate, "a", *own, "--out", "b")["test"]["iw_particles"] == 5


def test_a_saved_run_is_evaluated_refitted_sampled_and_reconstructed(trained):
    evaluated = run(evaluate, trained, "--particles", "7", "--split", "both", "--out", "e")
    assert evaluated["test"]["iw_bound"] >= evaluated["test"]["elbo"]
    assert evaluated["test"]["iw_bound"] <= evaluated["test"]["log_evidence"] + 0.05
    again = run(evaluate, trained, "--particles", "1", "--out", "e1")
    saved = json.loads(Path(trained, "metrics.json").read_text())
    assert again["test"]["elbo"] == saved["test"]["elbo"]
    refitted = run(refit, trained, "--guide", "mean_field", *QUICK, "--out", "r")
    assert refitted["decoder"] == "frozen"
    assert refitted["test"]["log_evidence"] == saved["test"]["log_evidence"]
    assert refitted["protocol"]["local_steps"] == 5
    run(evaluate, "r", "--particles", "2", "--out", "e2")
    completed = run(reconstruct, "r", "--mask", "half", "--images", "5", "--out", "rr")
    assert completed["protocol"]["local_steps"] is None  # the model's own posterior
    run(sample, trained, "--temperature", "0.5", "2", "--count", "9", "--out", "s")
    whole = run(reconstruct, trained, "--out", "c", "--images", "40")
    assert whole["test"]["hidden_squared_error"] == 0
    half = run(reconstruct, trained, "--mask", "half", "--images", "40", "--out", "h")
    assert 0 < half["test"]["hidden_squared_error"] < half["test"]["squared_error"]


def test_compare_frozen_and_learned():
    guides = (
        "exact,mean_field:local_steps=20,amortized:covariance=full:hidden_dims=(5,),prior,point"
    )
    args = ["--data", "digits", "--rows", "60", "--guides", guides, "--epochs", "2"]
    first = run(compare, *args, "--out", "a")
    with undrawn():
        second = run(compare, *args, "--out", "b")
    assert without_times(first) == without_times(second)
    frozen = [row for row in first["rows"] if row["decoder"] == "frozen"]
    assert [row["guide"] for row in frozen] == [
        "exact",
        "mean_field:local_steps=20",
        "amortized:covariance=full:hidden_dims=(5,)",
        "prior",
        "point",
    ]
    assert len({row["evidence"] for row in frozen}) == 1
    assert len(first["rows"]) == 9
    assert {"table.csv", "table.md", "figures"} <= {path.name for path in Path("a").iterdir()}


def test_compare_a_vae_over_seeds(capsys):
    args = ["--model", "vae", "--data", "digits", "--rows", "50", "--epochs", "2", "--seeds", "2"]
    metrics = run(compare, *args, "--out", "a")
    assert {row["decoder"] for row in metrics["rows"]} == {"learned"}
    assert {row["seed"] for row in metrics["rows"]} == {0, 1}
    assert {row["guide"] for row in metrics["rows"]} == {
        "full_rank",
        "mean_field",
        "amortized",
        "prior",
    }
    assert "over 2 seeds" in capsys.readouterr().out


@pytest.mark.usefixtures("without_pictures")
def test_resumed_run_is_the_uninterrupted_one():
    args = [*SHORT, "--guide", "amortized", "--schedule", "constant"]
    whole = run(ppca, *args, "--epochs", "4", "--out", "whole")
    run(ppca, *args, "--epochs", "2", "--out", "parts")
    parts = run(ppca, *args, "--epochs", "4", "--out", "parts", "--resume")
    assert without_times(whole) == without_times(parts)
    texts = [Path(out, "metrics.jsonl").read_text().splitlines() for out in ("whole", "parts")]
    records = [[json.loads(line) | {"seconds": 0} for line in text] for text in texts]
    assert records[0] == records[1]
    saved = [latest(Path(out)) / "weights.safetensors" for out in ("whole", "parts")]
    assert saved[0].read_bytes() == saved[1].read_bytes()


@pytest.mark.usefixtures("without_pictures")
def test_a_frozen_guide_is_trained_with_the_objective_asked_for():
    args = ["--data", "digits", "--guide", "mean_field", "--decoder", "frozen", *QUICK]
    assert run(ppca, *args, "--out", "a")["objective"] == "stl"
    asked = run(ppca, *args, "--objective", "elbo_analytic_kl", "--out", "b")
    assert asked["objective"] == "elbo_analytic_kl"
    assert (
        run(ppca, *args, "--out", "a", "--resume")["test"]
        == run(ppca, *args, "--out", "c")["test"]
    )


def test_a_model_with_another_prior_keeps_its_run():
    Path("othermodel.py").write_text(
        "import pyro, torch\n"
        "import pyro.distributions as dist\n"
        "from ppl_models import Program, data_plate\n"
        "class Positive(Program):\n"
        "    def __init__(self, data_dim, lr: float = 2.0):\n"
        "        super().__init__()\n"
        "        self.W = torch.nn.Parameter(torch.randn(data_dim, 2))\n"
        "    def forward(self, batch):\n"
        "        with data_plate(batch):\n"
        "            prior = dist.MultivariateNormal(self.W.new_zeros(2), 2 * torch.eye(2))\n"
        "            z = pyro.sample('z', prior)\n"
        "            x = dist.Normal(z.abs() @ self.W.mT, 1.0).to_event(1)\n"
        "            return pyro.sample('x', x, obs=batch.x)\n"
    )
    args = [*SHORT, "--model", "othermodel:Positive", "--model.lr", "3", "--lr", "0.02"]
    metrics = run(
        train, *args, "--guide", "amortized", "--objective", "elbo_analytic_kl", "--out", "a"
    )
    assert metrics["sampled_sites"] in ([], ["z"])
    assert Path("a/figures/samples.png").exists()


def test_the_labs_nonlinear_model_and_vae():
    monte_carlo = run(nonlinear, *SHORT, "--out", "n")
    assert (monte_carlo["guide"], monte_carlo["objective"]) == ("prior", "iwae")
    amortised = run(vae, *SHORT, "--out", "v")
    assert (amortised["guide"], amortised["objective"]) == ("amortized", "elbo_analytic_kl")
    assert Path("v/figures/latent_grid.png").exists()
    deep = ["--hidden-dims", "9", "8", "--latent-dim", "3", "--likelihood", "beta", "--dequantize"]
    metrics = run(vae, *SHORT, *deep, "--out", "d")
    assert metrics["protocol"]["pixels"] == "grey-dequantised"
    assert run(evaluate, "d", "--particles", "5", "--out", "e")["test"]["iw_particles"] == 5


def test_a_vae_under_every_guide_it_takes():
    for guide in ("prior", "mean_field", "amortized"):
        rows = QUICK if guide == "mean_field" else []
        metrics = run(train, *SHORT, "--model", "vae", "--guide", guide, *rows, "--out", guide)
        assert metrics["test"]["log_evidence"] is None
    half = run(reconstruct, "prior", "--mask", "half", "--images", "5", "--out", "h")
    assert half["protocol"]["estimator"] == "FullRank"
    assert half["protocol"]["local_steps"] == 500
    assert half["protocol"]["particles"] == 1  # the mean of q, not draws of the prior


@pytest.mark.usefixtures("without_pictures")
def test_early_stopping_stops():
    metrics = run(
        ppca,
        "--data",
        "digits",
        "--epochs",
        "60",
        "--lr",
        "1e-12",
        "--patience",
        "2",
        "--guide",
        "amortized",
        "--out",
        "a",
    )
    assert metrics["epochs"] < 60


@pytest.mark.parametrize("binarize", ["static", "dynamic"])
@pytest.mark.usefixtures("without_pictures")
def test_binary_pixels_are_named_in_the_protocol(binarize):
    metrics = run(ppca, *SHORT, "--guide", "amortized", "--binarize", binarize, "--out", "a")
    assert metrics["protocol"]["pixels"] == "binary"
    assert metrics["protocol"]["binarize_seed"] == 1


@pytest.mark.usefixtures("without_pictures")
def test_what_evaluate_says_of_the_latents():
    run(vae, *SHORT, "--out", "v")
    found = run(evaluate, "v", "--particles", "3", "--out", "e")["test"]
    assert found["elbo"] == pytest.approx(-found["rate"] - found["distortion"])
    assert {"active_units", "aggregate_kl", "effective_sample_size"} <= set(found)
    run(nonlinear, *SHORT, "--out", "n")
    shown = run(reconstruct, "n", "--images", "5", "--out", "rn")
    assert shown["protocol"]["particles"] == ENCODING_DRAWS
    shared = run(evaluate, "n", "--particles", "100", "--out", "en")
    assert shared["protocol"]["estimator"] == "shared_draws"
    assert shared["test"]["iw_bound_draws_se"] > 0


def test_sample_in_every_way(trained):
    for way in ("prior", "aggregate", "traversals", "interpolation"):
        args = ["--of", way, "--between", "3", "7", "--steps", "4", "--count", "4"]
        metrics = run(sample, trained, *args, "--out", way)
        assert metrics["protocol"]["estimator"] == way
    run(ppca, *SHORT, "--guide", "mean_field", *QUICK, "--out", "rows")
    for way in ("aggregate", "traversals", "interpolation"):
        run(sample, "rows", "--of", way, "--out", f"rows-{way}")


@pytest.mark.usefixtures("without_pictures")
def test_saved_runs_side_by_side(trained):
    run(vae, *SHORT, "--out", "v")
    run(pca, "--data", "digits", "--out", "p")
    run(evaluate, trained, "--particles", "5", "--out", "e")
    table = run(compare, "--runs", "p", trained, "v", "e", "--out", "c")["runs"]
    assert [line["run"] for line in table] == ["p", "trained", "v", "e"]
    assert table[1]["log p(x), exact"].count("±") == 1
    assert table[2]["log p(x), exact"] is None
    assert table[2]["ELBO minus the first's, paired"] is None  # PCA has no ELBO
    assert table[2]["objective"] == "elbo_analytic_kl"
    assert table[3]["epochs"] == 2
    again = run(compare, "--runs", "v", "v", "--out", "d")["runs"]
    assert again[1]["ELBO minus the first's, paired"] == "0.000 ± 0.000"
    assert again[1]["IW bound minus the first's, paired"] is None
    twice = run(compare, "--runs", "e", "e", "--out", "f")["runs"]
    assert twice[1]["IW bound minus the first's, paired"] == "0.000 ± 0.000"
    assert {"table.md", "table.csv"} <= {path.name for path in Path("c").iterdir()}


@pytest.mark.usefixtures("without_pictures")
def test_a_reproduced_table_goes_on_where_it_stopped():
    common = ["--data", "digits", "--rows", "200", "--samples", "4"]

    def reproduced(*args):
        cli(reproduce.Config, reproduce.main, [*args, *common])
        return json.loads(Path(args[args.index("--out") + 1], "table.json").read_text())

    whole = reproduced("iwae", "--epochs", "2", "--out", "a")
    assert [row["run"] for row in whole["rows"]] == ["vae-1", "iwae-5"]
    assert {row["published"] for row in whole["rows"]} == {None}  # not MNIST
    assert whole["protocol"]["pixels"] == "binary"
    Path("a/vae-1-evaluated/metrics.json").unlink()
    Path("a/iwae-5/metrics.json").unlink()
    Path("a/iwae-5-evaluated/metrics.json").unlink()
    again = reproduced("iwae", "--epochs", "2", "--out", "a", "--resume")
    for row in (*whole["rows"], *again["rows"]):
        del row["training seconds"]
    assert again == whole
    lab = reproduced("lab", "--epochs", "1", "--out", "b")
    for name in ("ppca", "nonlinear", "vae-10"):  # as the commands themselves
        config = json.loads(Path("b", name, "config.json").read_text())
        assert config["options"]["batch_size"] == 50
    names = ["pca", "ppca", "nonlinear", "vae", "vae-10", "vae-50"]
    assert [row["run"] for row in lab["rows"]] == names
    assert [row["M"] for row in lab["rows"]] == [2, 2, 2, 2, 10, 50]


def test_a_stopped_table_is_continued_as_a_table(monkeypatch, capsys):
    args = ["iwae", "--entries", "vae-1", "--data", "digits", "--rows", "200", "--epochs", "2"]
    assert stopped(monkeypatch, 1, reproduce, [*args, "--out", "a"]) == 143
    command = capsys.readouterr().err.splitlines()[-1]
    assert command.endswith("--epochs 2 --out a --resume")


def test_a_table_without_figures_is_not_written(capsys):
    assert reproduce.save(Path("a"), reproduce.TABLES["guides"]) == []
    assert capsys.readouterr().out == "a: no row has figures for a table yet.\n"
    assert not Path("a").exists()


def test_bench_times_four_ways(monkeypatch, as_traced):
    monkeypatch.setattr(bench, "matrix_peak", lambda device: 1e9)
    metrics = run(
        bench, "lab-vae", "--data", "digits", "--rows", "200", "--epochs", "1", "--out", "a"
    )
    rows = metrics["bench"]["lab-vae"]
    assert [row["of the per-item loop"] > 0 for row in rows] == [True] * 4


@pytest.mark.usefixtures("without_pictures")
def test_centred_networks_start_at_the_mean_image():
    from experiments.training.saved_run import open_run

    args = [*SHORT, "--binarize", "dynamic", "--likelihood", "bernoulli", "--lr", "1e-12"]
    tanh = ["--guide.activation", "tanh"]  # such networks start without biases
    run(vae, *args, *tanh, "--centre", "--out", "a")
    saved = open_run(Path("a"), None, torch.device("cpu"))
    grey = saved.train.pixels / saved.train.levels
    bias = saved.model.decoder.mlp.head.bias
    assert (torch.sigmoid(bias) - grey.mean(0).flatten()).abs().max() < 0.01
    first = saved.guide.encoder.layers[0]
    assert first(grey.mean(0).flatten()).abs().max() < 1e-3


@pytest.mark.usefixtures("without_pictures")
def test_a_run_of_so_many_minutes_ends_with_its_schedule():
    args = ["--data", "digits", "--guide", "amortized", "--minutes", "0.02", "--out", "a"]
    args.append("--no-compile")  # which may take longer than that
    metrics = run(ppca, *args, "--epochs", "1")
    records = [json.loads(line) for line in Path("a/metrics.jsonl").read_text().splitlines()]
    assert metrics["epochs"] == len(records) > 1
    assert records[-1]["lr"] < 0.1 * records[0]["lr"]
    again = run(ppca, *args, "--epochs", "1", "--resume")
    assert again["seconds"]["train"] >= metrics["seconds"]["train"]


@pytest.mark.usefixtures("without_pictures")
def test_every_guide_on_the_decoder_of_a_saved_vae():
    run(vae, *SHORT, "--out", "v")
    args = ["--rows", "40", "--epochs", "2", "--particles", "10"]
    metrics = run(compare, "--of", "v", *args, "--out", "c")
    assert metrics["model"] == "vae"
    found = {row["guide"]: row for row in metrics["rows"]}
    assert set(found) == {"full_rank", "mean_field", "amortized", "prior", "point"}
    assert {row["decoder"] for row in found.values()} == {"frozen"}
    assert found["point"]["bound"] == "log_joint"
    assert found["prior"]["minus_best"] is None  # a bound of another kind than the others'
    assert max(row["minus_best"] for row in found.values() if row["bound"] == "elbo") == 0


def test_digits_come_in_small_batches_unless_told_otherwise():
    from experiments import ppca, vae
    from experiments.runs.cli import parse

    for module in (ppca, vae):
        for words, size in (
            (["--data", "digits"], 50),
            (["--data=digits", "--batch-size", "500"], 500),
            (["--data", "digits", "--batch-size=20"], 20),
            (["--data", "mnist"], 500),
        ):
            assert parse(module.Config, module.main, words).batch_size == size


@pytest.mark.usefixtures("without_pictures")
def test_ppca_prints_the_closed_form_optimum(tmp_path, capsys):
    from experiments import ppca

    ppca.main(ppca.Config(data="digits", epochs=1, out=tmp_path / "run"))
    said = " ".join(capsys.readouterr().out.split())
    assert "known in closed form, has log p(x) = -0.58 (test)" in said
