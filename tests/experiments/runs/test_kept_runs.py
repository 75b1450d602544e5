"""Runs that end at a bad moment can be continued, and say what they are."""

import dataclasses
import errno
import json
import math
import os
import signal
from pathlib import Path

import pytest
import torch

from experiments import bayesian_ppca, ppca, train
from experiments.inference.svi import SVI
from experiments.runs import checkpoint
from experiments.runs.cli import cli
from experiments.runs.files import FORMAT
from experiments.runs.resuming import read_saved
from experiments.tools import evaluate
from experiments.training.fitting import Fitting
from tests.shared.commands import SHORT, failed, run
from tests.shared.runs import DIGITS, RUNS, breaks, contents

ARGS = RUNS["ppca"][1]
ROWS = [*DIGITS, "--guide", "mean_field", "--decoder", "frozen", "--guide.local-steps", "5"]
EM = ["--data", "digits", "--rows", "100", "--method", "em"]

pytestmark = pytest.mark.usefixtures("in_a_folder", "without_pictures")


def options(out: str) -> dict:
    return json.loads(Path(out, "config.json").read_text())["options"]


def test_rows_that_could_not_be_kept_are_fitted_again(monkeypatch, capsys):
    """The log is written before the only checkpoint: with it alone the run cannot go on."""
    run(ppca, *ROWS, "--out", "whole")
    write = checkpoint.write_synced

    def full(path: Path, content: bytes) -> None:
        if Path("a/metrics.jsonl").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_synced", full)
        failed(capsys, [*ROWS, "--out", "a"], "no space is left")
    run(ppca, *ROWS, "--out", "a", "--resume")
    assert contents("a") == contents("whole")


def test_an_error_in_a_later_epoch_leaves_a_run_that_can_go_on(monkeypatch):
    """Within the first minute, when there is no checkpoint but the first."""
    run(ppca, *ARGS, "--out", "whole")
    step, done = SVI.step, []

    def refuses(self, batch):
        done.append(1)
        if len(done) == 5:
            raise ValueError("this row has no label.")
        return step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(SVI, "step", refuses)
        with pytest.raises(SystemExit):
            cli(ppca.Config, ppca.main, [*ARGS, "--out", "a"])
    run(ppca, *ARGS, "--out", "a", "--resume")
    assert contents("a") == contents("whole")


def test_what_trains_nothing_is_recorded_as_it_is_resumed():
    run(ppca, *EM, "--epochs", "2", "--out", "a")
    metrics = run(ppca, *EM, "--epochs", "4", "--out", "a", "--resume")
    assert metrics["epochs"] == options("a")["epochs"] == 4
    assert metrics["seconds"]["train"] > 0, "four steps of EM"


def test_a_run_killed_before_its_first_checkpoint_is_recorded_as_it_is_resumed(monkeypatch):
    def killed(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Fitting, "save", killed)
        with pytest.raises(SystemExit):
            cli(ppca.Config, ppca.main, [*ARGS, "--out", "a"])
    metrics = run(ppca, *ARGS, "--epochs", "5", "--out", "a", "--resume")
    assert metrics["epochs"] == options("a")["epochs"] == 5


def test_a_moved_run_says_where_it_is_to_be_continued(monkeypatch, capsys):
    step, done = SVI.step, []

    def moved(self, batch):
        done.append(1)
        if len(done) == 2:
            Path("a").rename("moved")
        if len(done) == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch)

    monkeypatch.setattr(SVI, "step", moved)
    with pytest.raises(SystemExit):
        cli(ppca.Config, ppca.main, [*ARGS, "--out", "a"])
    assert capsys.readouterr().err.splitlines()[-1].endswith("/moved --resume")


TIED = """
import pyro
import pyro.distributions as dist
from torch import nn
from ppl_models import Program, data_plate


class Tied(Program):
    def __init__(self, data_dim, latent_dim: int = 2):
        super().__init__()
        self.up = nn.Linear(latent_dim, data_dim)
        self.also = self.up

    def forward(self, batch):
        with data_plate(batch):
            prior = dist.Normal(self.up.weight.new_zeros(2), 1.0).to_event(1)
            z = pyro.sample("z", prior)
            x = dist.Normal(self.up(z) + self.also(z), 1.0).to_event(1)
            return pyro.sample("x", x, obs=batch.x)
"""


def test_a_module_under_two_names_is_kept():
    Path("tied_model.py").write_text(TIED)
    args = [*SHORT, "--model", "tied_model:Tied", "--guide", "amortized"]
    trained = run(train, *args, "--guide.hidden-dims", "8", "--out", "a")
    found = run(evaluate, "a", "--model", "tied_model:Tied", "--particles", "1", "--out", "b")
    assert found["test"]["elbo"] == trained["test"]["elbo"]


def test_after_a_rollback_as_many_steps_may_fail_as_before(monkeypatch):
    """Wherever in the series of failed steps the checkpoint was written."""
    breaks(monkeypatch, lambda number, svi: 5 <= number <= 8)
    limits = ["--max-skipped", "3", "--max-rollbacks", "1", "--checkpoint-every", "0s"]
    run(ppca, *ARGS, *limits, "--out", "a")


def test_a_rollback_goes_back_to_before_the_steps_that_failed(monkeypatch):
    """Their weights are those that fail: a smaller rate changes nothing of them."""
    bad, numbers = [], []

    def at_such_weights(number, svi):
        numbers.append(number)
        weights = next(svi.parameters).detach().clone()
        if number == 5:
            bad.append(weights)
        return bool(bad) and torch.equal(weights, bad[0])

    breaks(monkeypatch, at_such_weights)
    monkeypatch.setattr(Fitting, "_time_is_up", lambda self: len(numbers) in (2, 6))
    run(ppca, *ARGS, "--max-skipped", "3", "--out", "a")


def test_a_guide_that_diverges_leaves_the_others(monkeypatch, capsys):
    whole = SVI._attempt

    def broken(self, batch):
        loss = whole(self, batch)
        return loss * math.nan if self.guide.name == "auto_delta" else loss

    monkeypatch.setattr(SVI, "_attempt", broken)
    short = ["--rows", "40", "--latent-dim", "4", "--steps", "30", "--draws", "30"]
    guides = ["--guide", "auto_delta", "auto_normal"]
    metrics = run(bayesian_ppca, *guides, *short, "--out", "a")
    assert [row["guide"] for row in metrics["tables"]["Guides"]] == ["auto_normal"]
    assert "auto_delta failed: it diverged at --lr 0.02" in capsys.readouterr().out


@dataclasses.dataclass(frozen=True)
class Options:
    out: Path
    epochs: int = 1
    minutes: float | None = None
    readjust: int = 500


def test_a_finished_run_is_continued_if_readjust_differs():
    directory = Path("a")
    directory.mkdir()
    saved = {"format": FORMAT, "command": "nvae", "options": {"readjust": 500, "epochs": 1}}
    (directory / "config.json").write_text(json.dumps(saved))
    for name in ("metrics.json", "report.html"):
        (directory / name).write_text("{}")
    config = Options(directory, readjust=0)
    assert read_saved("nvae", {"readjust": 0, "epochs": 1}, config) == saved
