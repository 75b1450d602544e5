"""Runs whose numbers go wrong: steps skipped, rates lowered, and in the end an explanation."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from tqdm import tqdm

from experiments import ppca, vae
from experiments.inference.fit import Progress
from experiments.runs.checkpoint import checkpoints
from experiments.runs.cli import cli
from experiments.training import watch
from tests.experiments.inference.guard.guard_trial import trial
from tests.shared.commands import failed, run
from tests.shared.runs import DIGITS, breaks, contents, stopped

ARGS = [*DIGITS, "--guide", "amortized", "--checkpoint-every", "1"]


pytestmark = pytest.mark.usefixtures("in_a_folder", "without_pictures")


def test_skipped_steps_are_counted_and_explained(monkeypatch, capsys):
    breaks(monkeypatch, lambda step, svi: step in (4, 5))
    run(ppca, *ARGS, "--out", "a")
    records = [json.loads(line) for line in Path("a/metrics.jsonl").read_text().splitlines()]
    assert [record["skipped"] for record in records] == [0, 2, 0]
    printed = capsys.readouterr().out
    assert printed.count("warning: step 4 was not finite: a replay of it is finite") == 1
    assert "(epoch 2: 2 of 3 steps skipped)" in printed


def rate_of(svi):
    return svi.optimizers[0].param_groups[0]["initial_lr"]


def test_a_rate_that_is_too_high_is_halved(monkeypatch, capsys):
    breaks(monkeypatch, lambda step, svi: step > 4 and rate_of(svi) > 0.003)
    metrics = run(ppca, *ARGS, "--max-skipped", "2", "--out", "a")
    printed = capsys.readouterr().out
    assert "2 steps in a row were not finite" in printed
    for factor in ("0.5", "0.25"):
        assert f"Back to the checkpoint at epoch 1, with {factor} of the learning rate" in printed
    records = [json.loads(line) for line in Path("a/metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [1, 2, 3]
    assert records[0]["lr"] > 3 * records[1]["lr"] > 0
    assert metrics["epochs"] == 3


def test_a_run_that_does_not_recover_says_why_and_keeps_what_it_had(monkeypatch, capsys):
    breaks(monkeypatch, lambda step, svi: step > 4)
    args = [*ARGS, "--max-skipped", "2", "--max-rollbacks", "1", "--out", "a"]
    failed(capsys, args, "training diverged: 2 steps in a row were not finite; step ")
    assert checkpoints(Path("a"))
    assert not Path("a/metrics.json").exists()


def test_a_run_whose_last_epoch_took_no_step_is_no_result(monkeypatch, capsys):
    breaks(monkeypatch, lambda step, svi: step > 5)
    failed(capsys, [*ARGS, "--out", "a"], "training diverged: the last 4 steps were not finite")
    assert not Path("a/metrics.json").exists()


def test_a_run_may_be_rolled_back_to_its_very_start(monkeypatch, capsys):
    breaks(monkeypatch, lambda step, svi: step < 3)
    run(ppca, *ARGS, "--max-skipped", "2", "--out", "a")
    assert "Back to the checkpoint at epoch 0, with 0.5 of" in capsys.readouterr().out


def test_lowered_rates_outlive_an_interruption(monkeypatch):
    args = [*ARGS, "--max-skipped", "2", "--epochs", "4"]
    with monkeypatch.context() as patch:
        breaks(patch, lambda step, svi: step in (5, 6))
        run(ppca, *args, "--out", "whole")
    with monkeypatch.context() as patch:
        breaks(patch, lambda step, svi: step in (5, 6))
        stopped(patch, 8, ppca, [*args, "--out", "a"])
    run(ppca, *args, "--out", "a", "--resume")
    assert contents("a") == contents("whole")


def test_a_sigma_that_runs_to_zero_is_warned_of(capsys):
    args = [*DIGITS, "--latent-dim", "60", "--guide", "exact", "--lr", "1.0", "--epochs", "40"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.inference.collapse.NOISE", (10.0, 1e3))
        run(ppca, *args, "--out", "a")
    printed = capsys.readouterr().out
    assert printed.count("a Gaussian's likelihood is unbounded on constant pixels") == 1


def test_a_latent_that_carries_nothing_is_warned_of(capsys):
    args = [*DIGITS, "--lr", "1e-12", "--binarize", "static", "--likelihood", "bernoulli"]
    cli(vae.Config, vae.main, [*args, "--beta", "1", "--out", "a"])
    assert "posterior collapse" not in capsys.readouterr().out
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.inference.collapse.LEAST_KL", 1e9)
        run(vae, *args, "--out", "b")
    assert capsys.readouterr().out.count("(posterior collapse)") == 1


def test_where_training_takes_minutes_latents_are_looked_at_by_time(monkeypatch):
    """Eighty epochs of 0.75 s in a minute: every 3 s from its first quarter on."""
    looked = []
    monkeypatch.setattr(watch, "collapsed", lambda *_: looked.append(timed.train_seconds) or [])

    def record(progress):
        timed.train_seconds += progress.seconds

    config = SimpleNamespace(epochs=20, minutes=1.0, batch_size=5)
    timed = SimpleNamespace(config=config, train_seconds=0.0, record=record, say=lambda line: None)
    svi = SimpleNamespace(model=None, guide=None, guard=None, compiled=None)
    watched = watch.Watch(timed, svi, SimpleNamespace(like=lambda model: None))
    for epoch in range(1, 81):
        watched(Progress(epoch, epoch, 0.0, [0.0], 0.01, 0.75), None, tqdm(disable=True))
    assert looked == [*range(15, 61, 3)]


@pytest.mark.slow
def test_injected_nans_leave_the_elbo_within_the_spread_of_seeds():
    found = trial()
    assert found.skipped == 7
    assert min(found.without) <= found.injected <= max(found.without)
