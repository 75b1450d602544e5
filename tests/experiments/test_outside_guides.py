"""Guides, and models with global latents, from outside this package on the command line."""

import json
from pathlib import Path

import pytest

from experiments import compare, train
from experiments.errors import UsageError
from experiments.options.guide_lists import parse_guides
from experiments.sweeps.grid import Grid
from experiments.sweeps.plan import plan
from experiments.tools import (
    calibrate,
    evaluate,
    explore,
    export_nvae,
    gaps,
    gradients,
    refit,
    sample,
)
from tests.shared.commands import refused, run

SHORT = ["--data", "digits", "--rows", "60", "--epochs", "2", "--latent-dim", "2"]


pytestmark = pytest.mark.usefixtures("ownguides", "without_pictures")


def test_a_guide_of_ones_own_goes_everywhere(capsys):
    own = ["--guide", "ownguides:Encoder"]
    found = run(train, *SHORT, *own, "--guide.width", "6", "--out", "a")
    assert found["guide"] == "ownguides:Encoder"
    assert found["parameters"] == 64 * 2 + 64 + 1 + 64 * 6 + 6 + 6 * 4 + 4
    config = json.loads(Path("a/config.json").read_text())
    assert config["pair"]["guide_options"] == {"width": 6}
    again = run(evaluate, "a", *own, "--particles", "1", "--out", "e")
    assert again["test"]["elbo"] == found["test"]["elbo"]
    few = ["--images", "10", "--particles", "30", "--local-steps", "50", "--ais-from", "none"]
    assert {row["gap"] for row in run(gaps, "a", *own, *few, "--out", "g")["gaps"]} >= {"total"}
    other = run(gaps, "a", "--trust", "--guide", "full_rank", *few, "--out", "h")
    assert other["guide"] == "full_rank"
    run(calibrate, "a", "--trust", "--simulations", "100", "--out", "c")
    fitted = run(
        refit, "a", "--trust", "--guide", "ownguides:Plain", "--epochs", "1", "--out", "r"
    )
    assert fitted["guide"] == "ownguides:Plain"
    run(gradients, "r", "--trust", "--images", "5", "--steps", "3", "--out", "n")
    guides = "ownguides:Encoder:width=3,ownguides:Plain,exact"
    compared = run(
        compare, "--of", "a", "--guides", guides, "--rows", "20", "--epochs", "2", "--out", "d"
    )
    assert [row["guide"] for row in compared["rows"]] == guides.split(",")


def test_a_sweep_over_guides_of_ones_own():
    axes = {"guide": ("ownguides:Encoder:width=3", "ownguides:Plain", "amortized")}
    runs = plan("train", Grid(axes, {"data": "digits", "epochs": "1"}), Path("s"))
    options = [(one.options["guide"], one.options["guide_options"]) for one in runs]
    assert options[:2] == [("ownguides:Encoder", {"width": 3}), ("ownguides:Plain", {})]


BAD = {
    "NoModel": "is not built from a model: the first argument of its constructor has to be",
    "Holds": "holds the model as one of its parts",
    "Breaks": "cannot be built from PPCA (AttributeError: 'PPCA' object has no attribute",
    "NoDefault": "NoDefault has an option without a default: width",
    "NoLatent": "NoLatent does not sample 'z', a latent of PPCA",
    "program": "is not a torch.nn.Module class but a function",
    "instance": "is not a torch.nn.Module class but one of its instances: name the class, Linear",
    "NoModule": "is not a torch.nn.Module class.",
    "Nothing": "cannot be imported: module 'ownguides' has no attribute 'Nothing'",
    "": "is unknown; there are prior, point",
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_guide_is_refused_in_one_line(name, capsys):
    refused(capsys, train, [*SHORT, "--guide", f"ownguides:{name}", "--out", "x"], BAD[name])


def test_other_mistakes(capsys):
    for name, words in {
        "amortised": "did you mean amortized? There are",
        "nowhere:Guide": "guide 'nowhere:Guide' cannot be imported: No module named 'nowhere'",
        "mean_fields": "or package.module:Class",
    }.items():
        refused(capsys, train, [*SHORT, "--guide", name], words)
    wrong = [*SHORT, "--guide", "ownguides:Encoder", "--guide.depth", "3"]
    refused(capsys, train, wrong, "--guide.depth")
    for text, words in {
        "ownguides:Encoder:depth=3": "has no option 'depth'; it has width",
        "ownguides:Encoder:width=a": "must be like its default, 8",
        "mean_field:local_steps=True": "local_steps=True must be like its default, 500",
        "mean_field:local_lr=True": "local_lr=True must be like its default, 0.1",
        "ownguides:Encoder,ownguides:Encoder": "names a guide twice",
        "amortized:hidden_dims=(9,):encoder=linear": "hidden-dims has no effect on amortized:enc",
        "amortized:encoder=conv:activation=tanh": "activation has no effect on amortized:encoder",
    }.items():
        with pytest.raises(UsageError, match=words):
            parse_guides(text)
    parse_guides("amortized:encoder=linear:hidden_dims=(400,)")  # the default
    (entry,) = parse_guides("semi_amortized:through=True")
    assert entry.options == {"through": True}


@pytest.mark.parametrize("guide", ["top_down", "bottom_up"])
def test_a_hierarchy_of_ones_own(capsys, guide):
    model = ["--model", "ownguides:Ladder"]
    own = ["--data", "digits", "--rows", "60", "--epochs", "2", *model, "--guide", guide]
    found = run(train, *own, "--guide.hidden-dims", "8", "--out", "a")
    assert (found["guide"], found["objective"]) == (guide, "elbo")
    evaluated = run(evaluate, "a", *model, "--particles", "5", "--out", "e")["test"]
    assert evaluated["elbo"] < evaluated["iw_bound"]
    least = ["--images", "3", "--particles", "30", "--chains", "2", "--ais-steps", "3"]
    least += ["--local-steps", "50", "--simulated", "2", "--tail-images", "0"]
    if guide == "top_down":
        assert run(gaps, "a", *model, *least, "--out", "g")["guide"] == guide
    refused(capsys, explore, ["a", *model, "--out", "p.html"], "its model is 'ownguides:Ladder'")
    refused(capsys, sample, ["a", *model, "--of", "traversals"], "has z0, z1: use --of groups")
    run(calibrate, "a", *model, "--simulations", "100", "--out", "calibrated")
    refused(capsys, export_nvae, ["a"], "a is not an NVAE run with the guide top_down")
    refused(capsys, train, [*own, "--guide.cells-per-group", "2"], "takes hidden_dims and activat")
    wrong = [*own[:-1], "amortized"]
    refused(capsys, train, wrong, "takes prior, point, mean_field, bottom_up, top_down")


def test_a_model_with_global_latents(capsys):
    model = ["--model", "ownguides:Means"]
    short = ["--data", "digits", "--rows", "60", "--epochs", "2"]
    found = run(train, *short, *model, "--guide", "auto_normal", "--out", "a")
    assert found["protocol"]["estimator"] == "whole_data"
    assert found["protocol"]["split"] == "train"
    assert found["train"]["elbo_se"] > 0
    assert "test" not in found
    point = run(train, *short, *model, "--guide", "auto_delta", "--out", "d")
    assert (point["objective"], point["train"]["log_joint_se"]) == ("log_joint", 0)
    refit_ = ["a", *model, "--guide", "auto_low_rank", "--guide.rank", "2", "--epochs", "1"]
    assert run(refit, *refit_, "--out", "r")["train"]["elbo"] < 1e9
    by_datum = "'s' of Means is a global latent"
    for module, *args in (
        (evaluate, "a"),
        (gaps, "a"),
        (calibrate, "a"),
        (compare, "--of", "a", "--guides", "auto_normal", "--rows", "20"),
    ):
        refused(capsys, module, [*args, *model, "--out", "x"], by_datum)
    refused(capsys, compare, ["--runs", "a", "d"], "a has no figures of images to compare")
    refused(capsys, train, [*short, *model, "--out", "y"], "which takes auto_delta, auto_normal")
