"""Options that a run must use or refuse."""

import json
from pathlib import Path

import pytest

from experiments import pca, ppca, train, vae
from experiments.tools import refit
from tests.shared.commands import refused, run
from tests.shared.runs import DIGITS

pytestmark = pytest.mark.usefixtures("in_a_folder")


@pytest.mark.parametrize(
    "option", [["--minutes", "1"], ["--patience", "2"], ["--clip", "1"], ["--compile"]]
)
def test_options_of_epochs_are_refused_where_rows_take_local_steps(option, capsys):
    rows = ["--guide", "mean_field", "--decoder", "frozen", "--guide.local-steps", "3"]
    refused(capsys, ppca, [*DIGITS, *rows, *option, "--out", "a"], option[0])


def test_a_refit_rounds_products_of_float32_alone(capsys):
    rounded = ["--products", "bfloat16", *DIGITS[4:]]
    for dtype in ("float32", "float64"):
        run(ppca, *DIGITS, "--guide", "exact", "--dtype", dtype, "--out", dtype)
    run(refit, "float32", "--guide", "amortized", *rounded, "--out", "a")
    refused(capsys, refit, ["float64", *rounded, "--out", "b"], "bfloat16", "float64")


def test_clipped_to_nearly_nothing_a_gradient_moves_nothing():
    bounded = {"a": ["--clip", "1e-14"], "b": ["--lr", "1e-12"], "c": []}
    for out, options in bounded.items():
        run(ppca, *DIGITS, "--guide", "amortized", *options, "--out", out)
    logs = [Path(out, "metrics.jsonl").read_text().splitlines() for out in bounded]
    clipped, still, trained = ([json.loads(line)["loss"] for line in log] for log in logs)
    assert clipped == pytest.approx(still, rel=1e-4)
    assert trained[-1] < clipped[-1] - 1


def test_pca_neither_mirrors_images_nor_reads_classes(capsys):
    for option in (["--flip"], ["--given", "labels"]):
        words = f"{option[0]} has no effect on pca"
        refused(capsys, pca, ["--data", "digits", *option, "--out", "a"], words)


@pytest.mark.parametrize("frozen", [["--decoder", "frozen"], ["--guide", "point"]])
def test_em_is_refused_where_the_decoder_is_frozen(frozen, capsys):
    args = [*DIGITS, "--method", "em", *frozen, "--out", "a"]
    refused(capsys, ppca, args, "--method em learns p", "--method closed_form")


@pytest.mark.parametrize("option", [["--hidden-dims", "9"], ["--activation", "tanh"]])
def test_convolutions_take_no_options_of_an_mlp(option, capsys):
    words = f"{option[0]} has no effect on --network conv"
    for command in ([vae], [train, "--model", "vae"]):
        args = [*DIGITS, *command[1:], "--network", "conv", *option, "--out", "a"]
        refused(capsys, command[0], args, words)


@pytest.mark.parametrize("encoder", ["linear", "conv"])
@pytest.mark.parametrize("option", [["--guide.hidden-dims", "9"], ["--guide.activation", "tanh"]])
def test_nor_do_encoders_that_are_no_mlp(encoder, option, capsys):
    guide = ["--guide", "amortized", "--guide.encoder", encoder]
    words = f"{option[0]} has no effect on --guide.encoder {encoder}"
    for command in (ppca, vae):
        refused(capsys, command, [*DIGITS, *guide, *option, "--out", "a"], words)
