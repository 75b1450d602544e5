"""Results that a run or a teacher would lose at the end: pictures, pages, tables, weights."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments import nvae, pca, ppca
from experiments.reports import plots
from experiments.runs.cli import cli
from experiments.tools import explore, export_nvae, gaps, labs
from experiments.training.nvae import batch_norms
from experiments.training.nvae.batch_norms import batch_norm_statistics
from ppl_models import NVAE
from tests.shared.commands import refused, run

pytestmark = pytest.mark.usefixtures("in_a_folder")


@pytest.mark.parametrize("names", [["$", "$$", "$$$"], ["$5_$10", "$10_$20", "more"]])
def test_classes_with_dollars(names):
    x = np.random.default_rng(0).integers(0, 255, (60, 1, 4, 4)).astype("u1")
    np.savez("x.npz", x=x, y=np.array(names * 20))
    cli(pca.Config, pca.main, ["--data", "x.npz", "--out", "run"])
    assert Path("run/report.html").exists()


def test_they_are_not_typeset():
    import torch

    figure = plots.by_class(torch.rand(6), torch.tensor([0, 1] * 3), "k", 0.7, ("$a$", "b"))
    labels = figure.axes[1].get_xticklabels()
    assert labels[0]._preprocess_math(labels[0].get_text()) == ("$a$", False)


def test_a_page_in_a_new_folder():
    short = ["--data", "digits", "--rows", "100", "--epochs", "1", "--guide", "amortized"]
    run(ppca, *short, "--out", "r")
    few = ["--images", "4", "--points", "30", "--particles", "3"]
    cli(explore.Config, explore.main, ["r", *few, "--out", "pages/r.html"])
    assert Path("pages/r.html").is_file()


def test_statistics_that_cannot_be_kept_are_used_nevertheless(tmp_path, monkeypatch):
    def refuse(path, save):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(batch_norms, "write", refuse)
    model = NVAE((1, 8, 8), groups=(1, 1), latents=1, channels=4, blocks=1, cells_per_block=1)
    model.eval()
    assert batch_norm_statistics(model)
    with batch_norms.readjusted(tmp_path, model, 0.7, 2):
        assert all(values.isfinite().all() for values in batch_norm_statistics(model).values())
    assert torch.is_tensor(next(model.parameters()))


def test_export_of_a_run_without_a_log():
    from safetensors import safe_open

    tiny = ["--preset", "digits-tiny", "--rows", "20", "--epochs", "1", "--batch-size", "20"]
    cli(nvae.Config, nvae.main, [*tiny, "--evaluate", "1", "--readjust", "1", "--out", "a"])
    Path("a/metrics.jsonl").unlink()  # as after nvae --pretrained, or import-nvae
    cli(export_nvae.Config, export_nvae.main, ["a", "--file", "a.safetensors"])
    with safe_open("a.safetensors", "pt") as file:
        assert json.loads(file.metadata()["epochs"]) == 1  # of metrics.json


def test_figures_that_are_not_finite_are_unknown(monkeypatch):
    """k-hat is infinite where the largest weights are equal and the others are not."""
    short = ["--data", "digits", "--rows", "100", "--epochs", "1", "--guide", "amortized"]
    run(ppca, *short, "--out", "r")
    infinite = lambda log_w: torch.full((len(log_w),), math.inf, dtype=torch.float64)  # noqa: E731
    monkeypatch.setattr(gaps, "khat", infinite)
    few = ["--images", "10", "--particles", "30", "--local-steps", "1", "--tail-draws", "2000"]
    metrics = run(gaps, "r", *few, "--ais-from", "none", "--out", "g")
    assert metrics["means"]["khat"] is None
    assert metrics["tails"][0]["k-hat"] is None
    assert metrics["share_unreliable"] == 1


@pytest.mark.parametrize("name", ["roster.csv", "roster.html"])
def test_files_of_a_teacher_are_kept(name, capsys):
    Path(name).write_text("mine")
    Path("handed/ada").mkdir(parents=True)
    cells = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    Path("handed/ada/lab.ipynb").write_text(json.dumps(cells))
    refused(capsys, labs, ["grade", "handed", "--out", "roster.csv"], name, "exists")
    assert Path(name).read_text() == "mine"
