"""What is found before, or at, the first step: one line, and nothing left."""

from pathlib import Path

import numpy as np
import pytest

from experiments import pca, ppca, train, vae
from experiments.reports.words.comparisons import findings_of_guides
from experiments.runs.cli import cli
from experiments.tools import calibrate, predictive, reconstruct, sample
from tests.shared.commands import refused, run

pytestmark = pytest.mark.usefixtures("in_a_folder", "without_pictures")

DRAWS = np.random.default_rng(0)
ROWS = DRAWS.normal(size=(60, 6))
VAE = ["--epochs", "1", "--hidden-dims", "8", "--guide.hidden-dims", "8", "--no-compile"]


def saved(x) -> str:
    np.save("x.npy", x)
    return "x.npy"


@pytest.mark.parametrize("module", [pca, ppca, vae])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x + 1e8, ["float32 rounds them", "--dtype float64"]),
        (lambda x: x * 1e30, ["beyond float32", "--dtype float64"]),
        (lambda x: x * 1e-30, ["vanishes in float32", "--dtype float64"]),
        (lambda x: x * 1e300, ["beyond float32"]),
    ],
)
def test_data_that_float32_cannot_hold(module, change, words, capsys):
    args = ["--data", saved(change(ROWS)), "--latent-dim", "2", "--out", "a"]
    refused(capsys, module, args, *words)


def test_float64_holds_them(capsys):
    args = ["--data", saved(ROWS + 1e8), "--latent-dim", "2", "--dtype", "float64"]
    far = run(ppca, *args, "--method", "closed_form", "--out", "a")
    near = run(ppca, "--data", saved(ROWS), *args[2:], "--method", "closed_form", "--out", "b")
    found, expected = (metrics["test"]["log_evidence"] for metrics in (far, near))
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("shape", [(8, 8, 1), (8, 8, 3), (2, 8, 8), (4, 8, 8)])
def test_arrays_that_are_no_images_are_trained_on_and_not_shown(shape, capsys):
    x = (DRAWS.random((40, *shape)) * 255).astype("u1")
    cli(vae.Config, vae.main, [*VAE, "--data", saved(x), "--out", "a"])
    assert Path("a/report.html").exists()
    assert not Path("a/figures/reconstructions.png").exists()
    said = capsys.readouterr().out
    assert ("channels first" in said) == (shape[-1] in (1, 3))


def test_large_values_end_in_the_guards_words(capsys):
    x = np.abs(ROWS) * 1e6
    args = ["--data", saved(x), *VAE, "--lr", "1", "--max-skipped", "2", "--out", "a"]
    with pytest.raises(SystemExit) as end:
        cli(vae.Config, vae.main, args)
    said = capsys.readouterr().err
    assert end.value.code in (1, 2)
    assert "tensor(" not in said
    assert len(said.strip().splitlines()) == 1


def test_labels_for_a_model_that_reads_none(capsys):
    args = ["--data", "digits", "--rows", "100", *VAE, "--given", "labels", "--out", "a"]
    refused(capsys, vae, args, "--given labels: VAE takes nothing but x")


EXITS = """
import sys
import pyro, torch
from torch import nn
import pyro.distributions as dist
from ppl_models import Program, data_plate


class M(Program):
    def __init__(self, data_dim: int = 6) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(data_dim)){at_init}

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            if batch.x is not None:{at_run}
                pass
            return pyro.sample("x", dist.Normal(z * self.w, 1.0).to_event(1), obs=batch.x)


{at_import}
"""
PLACES = {
    "at_import": "sys.exit(0)",
    "at_init": "\n        sys.exit(0)",
    "at_run": "\n                sys.exit(0)",
}


@pytest.mark.parametrize("place", PLACES)
def test_a_model_that_ends_the_program_is_no_success(place, capsys):
    code = EXITS.format(**(dict.fromkeys(PLACES, "") | {place: PLACES[place]}))
    Path(f"ends_{place}.py").write_text(code)
    args = ["--model", f"ends_{place}:M", "--data", saved(ROWS), "--epochs", "1", "--out", "a"]
    refused(capsys, train, args, "error: ")
    assert not Path("a").exists()


def test_a_file_is_no_module(capsys):
    args = ["--model", "good.py:M", "--data", saved(ROWS), "--out", "a"]
    refused(capsys, train, args, "write good:M")


def test_commands_that_would_conclude_from_nothing_or_take_all_memory(capsys):
    run(vae, "--data", "digits", "--rows", "100", *VAE, "--out", "v")
    refused(capsys, calibrate, ["v", "--simulations", "3"], "--simulations must be at least 100")
    refused(capsys, predictive, ["v", "--sets", "2"], "--sets must be at least 40")
    refused(capsys, sample, ["v", "--count", "10000000"], "--count 10000000", "--memory 2.0 GiB")
    refused(capsys, sample, ["v", "--temperature", "1", "1"], "give each of them once")


def test_half_of_a_row_of_numbers_is_its_second_half():
    run(ppca, "--data", saved(ROWS), "--latent-dim", "2", "--epochs", "1", "--out", "p")
    metrics = reconstruct.main(reconstruct.Config(Path("p"), mask="half", out=Path("r")))
    assert 0 < metrics["test"]["hidden_squared_error"] < metrics["test"]["squared_error"]


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (0.1, "nearly diagonal: the gap of q falls from 0.50"),
        (9.0, "not converged: the gap of q rises"),
    ],
)
def test_a_gap_that_rises_is_not_said_to_fall(now, words):
    row = {"guide": "q", "family": "diagonal", "exact_gap": None, "evidence": -1.0, "gap_se": 0.01}
    frozen, learned = (
        row | {"decoder": decoder, "gap": gap, "bound": "elbo", "oracle_gap": None}
        for decoder, gap in (("frozen", 0.5), ("learned", now))
    )
    assert words in findings_of_guides([frozen, learned])[1]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (["--alpha", "2"], ["--alpha has no effect on the objective elbo_analytic_kl"]),
        (["--free-bits", "1"], ["--free-bits has no effect on the objective"]),
        (["--strata", "3"], ["--strata has no effect on the objective"]),
        (["--strata", "3", "--free-bits", "1", "--alpha", "2"], ["--alpha has no effect"]),
        (["--cycles", "3"], ["--cycles are those of --kl-anneal"]),
    ],
)
def test_options_without_an_effect_are_refused(option, words, capsys):
    refused(
        capsys, vae, ["--data", "digits", "--rows", "100", *VAE, *option, "--out", "a"], *words
    )
