"""A run that is stopped anywhere and continued is the run that was not."""

import json
import re
import signal
from pathlib import Path

import pytest
import torch

from experiments import ppca
from experiments.inference.svi import SVI
from experiments.runs.checkpoint import checkpoints, unpacked
from experiments.runs.cli import cli
from experiments.training import fitting
from tests.shared.commands import refused, run
from tests.shared.runs import RUNS, contents, copied, stopped

pytestmark = pytest.mark.usefixtures("in_a_folder")


@pytest.mark.parametrize("name", RUNS)
def test_it_is_the_same_run_to_the_last_bit(name, monkeypatch):
    module, args = RUNS[name]
    copied("whole", module, args)
    steps = json.loads(Path("whole/metrics.jsonl").read_text().splitlines()[-1])["steps"]
    early = [2] if name in ("ppca", "rows", "nvae") else []  # the others have no more state there
    for step in (*early, steps - steps % 3 if name == "ppca" else steps // 2):
        out = f"stopped-{step}"
        assert stopped(monkeypatch, step, module, [*args, "--out", out]) == 143
        assert not Path(out, "metrics.json").exists()
        run(module, *args, "--out", out, "--resume")
        assert contents(out) == contents("whole")


def test_it_can_be_stopped_again_and_again(monkeypatch):
    module, args = RUNS["vae"]
    copied("whole", module, args)
    assert stopped(monkeypatch, 1, module, [*args, "--out", "a"]) == 143
    for _ in range(3):
        again = [*args, "--out", "a", "--resume"]
        assert stopped(monkeypatch, 2, module, again, signal.SIGINT) == 130
    run(module, *args, "--out", "a", "--resume")
    assert contents("a") == contents("whole")


def test_it_says_where_it_stopped_and_how_it_goes_on(monkeypatch, capsys):
    module, args = RUNS["ppca"]
    stopped(monkeypatch, 4, module, [*args, "--out", "a"])
    line, command = capsys.readouterr().err.splitlines()
    assert line == "stopped by SIGTERM after step 4 (epoch 2), which is kept; continue with"
    assert command.startswith("python -m experiments.ppca --data digits")
    assert command.endswith("--out a --resume")
    stopped(monkeypatch, 4, module, args)
    command = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"--out runs/ppca-\d+-\d+ --resume$", command)


def test_a_run_of_so_many_minutes_is_continued_without_a_number_of_epochs(monkeypatch, capsys):
    module, args = RUNS["ppca"]
    timed = [*args, "--minutes", "1", "--no-compile", "--out", "a"]
    stopped(monkeypatch, 4, module, timed)
    stopped(monkeypatch, 1, module, [*timed, "--resume"])
    assert "continuing after epoch 1, step 1\n" in capsys.readouterr().out


def test_one_stopped_before_its_first_checkpoint_starts_anew(monkeypatch, capsys):
    module, args = RUNS["ppca"]
    copied("whole", module, args)
    Path("a").mkdir()
    Path("a/run.lock").write_text("")
    Path("a/.config.json.half").write_text("{")
    run(module, *args, "--out", "a", "--resume")
    assert contents("a") == contents("whole")
    refused(capsys, module, [*args, "--out", "nothing", "--resume"], "nothing does not exist")


def test_a_finished_run_says_so_and_is_left_alone(capsys):
    module, args = RUNS["ppca"]
    run(module, *args, "--out", "a")
    before = {path: path.stat().st_mtime_ns for path in Path("a").rglob("*")}
    capsys.readouterr()
    cli(module.Config, module.main, [*args, "--out", "a", "--resume"])
    assert capsys.readouterr().out == "a is finished: a/report.html\n"
    assert {path: path.stat().st_mtime_ns for path in Path("a").rglob("*")} == before
    refused(
        capsys,
        module,
        [*args, "--epochs", "2", "--out", "a", "--resume"],
        "trained for 3 epochs, more than --epochs 2",
    )


def test_so_many_checkpoints_are_kept():
    module, args = RUNS["ppca"]
    run(module, *args, "--out", "a", "--checkpoint-every", "1", "--keep", "3")
    assert [path.name for path in checkpoints(Path("a"))] == ["00002", "00003", "00004"]
    run(module, *args, "--out", "b", "--checkpoint-every", "0s", "--keep", "1")
    assert [path.name for path in checkpoints(Path("b"))] == ["00013"]
    assert contents("a") == contents("b")
    assert not list(Path("b/checkpoint").glob(".*"))


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "3 m", "s", "1d", "nan"])
def test_other_intervals_are_refused(text, capsys):
    refused(capsys, ppca, ["--data", "digits", f"--checkpoint-every={text}"], "--checkpoint-every")


def test_every_generator_is_put_back():
    import random

    import numpy as np

    from experiments.runs.checkpoint import packed, unpacked
    from experiments.runs.random_state import put_random_state, random_state

    def draws() -> list[float]:
        return [torch.randn(()).item(), np.random.randn(), random.gauss(0, 1)]

    draws()  # the second of two Gaussian numbers waits in NumPy's and Python's generators
    kept = packed(random_state())
    once = draws()
    put_random_state(unpacked(kept, Path("state.pt")))
    assert draws() == once


def test_deterministic_algorithms_are_asked_for_and_given_back(monkeypatch):
    module, args = RUNS["ppca"]
    step, asked = SVI.step, set()

    def watched(self, batch):
        asked.add(torch.are_deterministic_algorithms_enabled())
        return step(self, batch)

    monkeypatch.setattr(SVI, "step", watched)
    run(module, *args, "--deterministic", "--out", "a")
    assert asked == {True}
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.usefixtures("without_pictures")
def test_the_total_time_is_that_of_all_processes(monkeypatch):
    """An hour of training, stopped and continued in a second, was 'total: 1 s'."""
    module, args = RUNS["ppca"]
    stopped(monkeypatch, 4, module, [*args, "--out", "a"])

    def after_an_hour(content: bytes, path: Path) -> dict:
        state = unpacked(content, path)
        records = [record | {"seconds": 3600.0} for record in json.loads(state["records"])]
        return state | {"records": json.dumps(records)}

    monkeypatch.setattr(fitting, "unpacked", after_an_hour)
    seconds = run(module, *args, "--out", "a", "--resume")["seconds"]
    assert seconds["total"] > seconds["train"] > 3600
