"""Numbers, tables and messages that would mislead: right, refused, or said in words."""

import sys
from pathlib import Path

import numpy as np
import pytest

from experiments import bayesian_ppca, compare, nvae, pca, ppca, train, vae
from experiments.data import load
from experiments.errors import UsageError
from experiments.evaluation.metrics import protocol
from experiments.reports.saved_comparison import SAME_IMAGES
from experiments.reports.words.comparisons import findings_of_guides
from experiments.reports.words.findings import findings
from experiments.runs.cli import cli
from experiments.tools import gaps, gradients, predictive, reconstruct
from tests.shared.commands import refused, run

pytestmark = pytest.mark.usefixtures("in_a_folder", "without_pictures")


def test_a_comparison_states_no_error_without_that_of_the_draws():
    args = ["--data", "digits", "--rows", "100", "--epochs", "1", "--guides", "exact,prior"]
    found = run(compare, *args, "--decoder", "frozen", "--particles", "5", "--out", "a")
    (prior,) = (row for row in found["rows"] if row["guide"] == "prior")
    assert prior["bound"] == "iw_bound (5)"
    assert prior["value_se"] is None
    assert prior["gap_se"] is None


def test_nor_do_the_words_on_a_run():
    figures = {
        "iw_bound": -50.0,
        "iw_bound_se": 0.5,
        "iw_bound_draws_se": None,
        "iw_particles": 5,
    }
    protocol = {"split": "test", "estimator": "shared_draws", "shape": [1, 8, 8]}
    (words,) = findings({"protocol": protocol, "test": figures})
    assert "±" not in words
    one = {"elbo": -50.0, "elbo_se": 0.5, "elbo_draws_se": None, "iw_bound": None}
    (words,) = findings({"protocol": protocol, "test": one})
    assert words.startswith("The ELBO is -50.000 nats per test image")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("options", [{"pad": 32}, {"flip": True}])
def test_channels_are_neither_padded_nor_mirrored(channels, options):
    x = np.random.default_rng(0).integers(0, 255, (40, 28, 28, channels)).astype("u1")
    np.save("x.npy", x)
    with pytest.raises(UsageError, match=r"channels"):
        load("x.npy", **options)


@pytest.mark.parametrize("binarize", ["none", "dynamic", "static"])
def test_what_is_given_is_part_of_the_protocol(binarize):
    without, given = (
        protocol(load("digits", binarize=binarize, given=how)[1].fixed(), None, 1)
        for how in ("none", "labels")
    )
    assert any(without.get(field) != given.get(field) for field in SAME_IMAGES)


def test_a_single_image_has_no_standard_error(capsys):
    short = ["--data", "digits", "--rows", "100", "--epochs", "1", "--guide", "amortized"]
    run(ppca, *short, "--out", "r")
    for module in (gaps, gradients, predictive, reconstruct):
        refused(
            capsys, module, ["r", "--images", "1", "--out", "n"], "--images must be at least 2"
        )


def test_the_decoder_of_a_saved_run_is_frozen(capsys):
    short = ["--data", "digits", "--rows", "100", "--epochs", "1"]
    run(ppca, *short, "--out", "a")
    least = ["--of", "a", "--guides", "exact", "--particles", "2", "--epochs", "1", "--out", "c"]
    refused(capsys, compare, [*least, "--decoder", "learned"], "--decoder", "--of")
    refused(capsys, compare, ["--runs", "a", "a", "--of", "a", "--out", "c"], "--runs", "--of")
    for option, value in (
        ("--particles", "7"),
        ("--model.latent-dim", "3"),
        ("--binarize", "static"),
    ):
        more = ["--runs", "a", "a", option, value, "--out", "c"]
        refused(capsys, compare, more, f"--runs settles {option}: leave that out")


def test_a_saved_run_brings_its_data_and_its_model(capsys):
    short = ["--data", "digits", "--rows", "100", "--epochs", "1", "--latent-dim", "3"]
    run(ppca, *short, "--out", "a")
    least = ["--of", "a", "--guides", "exact", "--particles", "2", "--out", "c"]
    for option, value in (
        ("--data", "mnist"),
        ("--binarize", "static"),
        ("--dtype", "float64"),
        ("--model", "vae"),
        ("--model.latent-dim", "4"),
    ):
        words = f"--of settles {option}: leave that out"
        refused(capsys, compare, [*least, option, value], words)
    run(compare, *least, "--latent-dim", "3", "--decoder", "frozen", "--data", "digits")


def test_options_that_a_saved_run_has_too_are_no_others(capsys):
    short = ["--data", "digits", "--rows", "100", "--epochs", "1", "--binarize", "static"]
    own = ["--likelihood", "bernoulli", "--hidden-dims", "9", "--latent-dim", "3"]
    run(vae, *short, *own, "--out", "a")
    least = ["--of", "a", "--guides", "amortized", "--particles", "2", "--epochs", "1"]
    named = [*least, "--model", "vae"]
    other = [*named, "--hidden-dims", "8", "--out", "b"]
    refused(capsys, compare, other, "--of settles --model.hidden-dims: leave that out")
    run(compare, *named, "--latent-dim", "3", "--binarize", "static", "--out", "b")
    run(compare, *least, "--latent-dim", "3", "--out", "c")  # of the VAE, not named


@pytest.fixture
def ownpoints(in_a_folder):
    """A guide of points of one's own."""
    Path("ownpoints.py").write_text(
        "import pyro, torch\n"
        "import pyro.distributions as dist\n"
        "from ppl_models import data_plate\n"
        "class ToPoint(torch.nn.Module):\n"
        "    objective = 'log_joint'\n"
        "    def __init__(self, model):\n"
        "        super().__init__()\n"
        "        self.net = torch.nn.Linear(64, model.W.shape[1])\n"
        "    def forward(self, batch):\n"
        "        with data_plate(batch):\n"
        "            pyro.sample('z', dist.Delta(self.net(batch.flat())).to_event(1))\n"
    )
    yield "ownpoints:ToPoint"
    sys.modules.pop("ownpoints", None)


def test_training_warns_of_points_of_ones_own_and_a_learned_decoder(capsys, ownpoints):
    args = ["--data", "digits", "--rows", "60", "--epochs", "1", "--guide", ownpoints]
    found = run(train, *args, "--out", "a")
    assert found["objective"] == "log_joint"
    said = capsys.readouterr().out
    assert "the log joint of the guide ownpoints:ToPoint has no optimum" in said


def test_compare_learns_no_decoder_with_points_of_ones_own(capsys, ownpoints):
    args = ["--data", "digits", "--rows", "60", "--epochs", "1", "--particles", "1"]
    found = run(compare, *args, "--guides", "exact,ownpoints:ToPoint", "--out", "a")
    rows = {(row["guide"], row["decoder"], row["bound"]) for row in found["rows"]}
    points = ("ownpoints:ToPoint", "frozen", "log_joint")
    assert rows == {("exact", "frozen", "elbo"), points, ("exact", "learned", "elbo")}
    alone = ["--guides", "ownpoints:ToPoint", "--decoder", "learned", "--out", "b"]
    refused(capsys, compare, [*args, *alone], "ToPoint has no optimum with a learned decoder")


def test_pca_shares_a_table_under_dynamic_binarisation():
    binary = ["--data", "digits", "--rows", "100", "--binarize", "dynamic"]
    run(pca, *binary, "--out", "p")
    run(ppca, *binary, "--guide", "amortized", "--epochs", "1", "--out", "q")
    table = run(compare, "--runs", "p", "q", "--out", "c")["runs"]
    assert [line["run"] for line in table] == ["p", "q"]
    Path("later").mkdir()
    Path("p").rename("later/q")  # whose name alone would be that of the other
    table = run(compare, "--runs", "later/q", "q", "--out", "d")["runs"]
    assert [line["run"] for line in table] == ["later/q", "q"]
    assert "later/q has the smallest" in Path("d/report.html").read_text()


def test_a_title_keeps_the_name_of_a_file():
    np.save("Wine.npy", np.random.default_rng(0).normal(size=(20, 3)))
    for out in ("a", "b"):
        run(pca, "--data", "Wine.npy", "--out", out)
    run(compare, "--runs", "a", "b", "--out", "c")
    assert "Two runs on the same 4 rows of Wine.npy" in Path("c/report.html").read_text()


CLASSES = """
import pyro
import pyro.distributions as dist
from torch import nn

from ppl_models import Program, data_plate


class Classes(Program):
    def __init__(self, data_dim, latent_dim: int = 2):
        super().__init__()
        self.net = nn.Linear(latent_dim, 3 * data_dim)

    def forward(self, batch):
        with data_plate(batch):
            zeros = self.net.weight.new_zeros(self.net.in_features)
            z = pyro.sample("z", dist.Normal(zeros, 1.0).to_event(1))
            logits = self.net(z).unflatten(-1, (-1, 3))
            return pyro.sample("x", dist.Categorical(logits=logits).to_event(1), obs=batch.x)
"""


def test_classes_have_no_mean_to_be_reconstructed_by(capsys):
    Path("ownclasses.py").write_text(CLASSES, encoding="utf-8")
    np.save("x.npy", np.random.default_rng(0).integers(0, 3, (40, 5)))
    args = ["--data", "x.npy", "--model", "ownclasses:Classes", "--epochs", "1", "--out", "a"]
    cli(train.Config, train.main, args)
    refused(capsys, reconstruct, ["a", "--trust", "--out", "r"], "a likelihood without a mean")


def row(guide, seed, value, below):
    figures = dict.fromkeys(("family", "gap", "gap_se", "exact_gap", "oracle_gap", "evidence"))
    return figures | {
        "guide": guide,
        "decoder": "learned",
        "seed": seed,
        "bound": "elbo",
        "value": value,
        "value_se": 0.5,
        "minus_best": below,
        "minus_best_se": 0.001,
    }


def test_a_difference_over_seeds_is_that_of_the_means():
    rows = [  # a is best with the first seed, b with the second
        row("a", 0, -10.0, 0.0),
        row("b", 0, -11.0, -1.0),
        row("a", 1, -12.0, -0.5),
        row("b", 1, -11.5, 0.0),
    ]
    (words,) = findings_of_guides(rows)  # a: -11, b: -11.25, with seeds 1.0 and 0.25 apart
    assert "the best ELBO is that of a, -11" in words
    assert "b is 0.50" not in words
    assert "b is 0.2" in words


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 1), (784,)])
def test_rows_that_are_no_images_are_not_called_so_many_channels(shape, capsys):
    x = np.random.default_rng(0).integers(0, 255, (40, *shape)).astype("u1")
    np.save("x.npy", x)
    args = ["--preset", "digits-tiny", "--data", "x.npy", "--epochs", "1", "--out", "a"]
    refused(capsys, nvae, args, "[N, C, H, W]")


def test_bayesian_ppca_takes_as_many_rows_as_asked_for(capsys):
    least = ["--steps", "1", "--draws", "4", "--latent-dim", "1", "--out", "b"]
    args = ["--data", "digits", "--rows", "5000", *least]
    refused(capsys, bayesian_ppca, args, "rows=5000", "1437")


def test_the_gap_of_an_encoder_that_is_not_known_is_not_its_familys(ownguides):
    short = ["--data", "digits", "--rows", "60", "--epochs", "1", "--latent-dim", "2"]
    run(train, *short, "--guide", "ownguides:Plain", "--out", "a")
    few = ["--images", "10", "--particles", "30", "--ais-from", "none", "--tail-images", "0"]
    found = run(gaps, "a", "--trust", *few, "--out", "g")
    assert [line["gap"] for line in found["gaps"]] == ["total"]
    assert "family does not contain" not in Path("g/report.html").read_text()
