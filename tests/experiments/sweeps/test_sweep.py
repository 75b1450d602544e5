"""A sweep runs what is not finished, once, and says what came out."""

import itertools
import json
import os
import statistics
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from experiments import pca, ppca
from experiments.errors import UsageError
from experiments.runs.cli import cli
from experiments.runs.lock import Lock
from experiments.sweeps import launch as launching
from experiments.sweeps.grid import arguments, name_of, points, read_grid
from experiments.sweeps.launch import Outcome, launch
from experiments.sweeps.plan import Planned, plan, save_plan
from experiments.sweeps.report import over_seeds, picture, rows_of, what_differs
from experiments.tools import evaluate, sweep
from tests.shared.commands import refused, run
from tests.shared.forked import Process, as_new
from tests.shared.runs import stopped

DIGITS = ["--with", "data=digits", "epochs=2", "batch_size=1000"]


pytestmark = pytest.mark.usefixtures("in_a_folder")


def swept(*args: str) -> dict:
    """Run the command; what it leaves."""
    cli(sweep.Config, sweep.main, list(args))
    return json.loads(Path(args[args.index("--out") + 1], "metrics.json").read_text())


def pretend(monkeypatch, errors=None) -> list:
    """Have runs leave figures, or errors, without being run; those asked for, in order."""
    asked = []

    def launch(run, threads):
        asked.append(run)
        error = (errors or {}).get(run.name)
        if error is None:
            finish(run, {"test": {"elbo": float(len(asked))}, "protocol": None})
        return Outcome(run.name, 0.1, error)

    monkeypatch.setattr(launching, "launch", launch)
    return asked


def finish(run: Planned, metrics: dict) -> None:
    """Leave what a finished run leaves."""
    run.path.mkdir(parents=True, exist_ok=True)
    (run.path / "config.json").write_text(json.dumps({"options": run.options}))
    (run.path / "metrics.json").write_text(json.dumps(metrics))
    (run.path / "report.html").write_text("")


class Forked(Process):
    """``subprocess.Popen`` as ``launch`` calls it: the command in a fork, its words in the log."""

    def __init__(self, words, *, stdout, **_):
        def prepare():
            as_new()
            os.dup2(stdout.fileno(), 1)
            os.dup2(stdout.fileno(), 2)

        command = words[2].rsplit(".", 1)[-1].replace("_", "-")
        super().__init__([command, *words[3:]], Path(tempfile.mkdtemp()), prepare)


@pytest.fixture
def forked(monkeypatch):
    """Runs are forks, which import nothing; those of a grid start Python itself."""
    monkeypatch.setattr(launching.subprocess, "Popen", Forked)


def test_points_are_all_combinations_by_names_that_do_not_depend_on_their_order():
    words = ["seed=0,1", "hidden-dims=(200,200),(5,)", "guide=amortized:covariance=full,flow"]
    names = set()
    for order in itertools.permutations(words):
        grid = read_grid(order, ["data=digits"])
        found = points(grid)
        assert len(found) == 8
        names.add(frozenset(map(name_of, found)))
    (one,) = names
    assert "guide=amortized-covariance-full+hidden_dims=200x200+seed=0" in one
    assert grid.shared == {"data": "digits"}
    long = name_of({"guide": "a" * 300, "seed": "0"})
    assert len(long) <= 150
    assert long != name_of({"guide": "a" * 300, "seed": "1"})


def test_settings_are_words_of_a_command_line():
    settings = {
        "guide": "amortized:hidden-dims=(8,9):covariance=full",
        "flip": "true",
        "guide.centre": "false",
        "hidden_dims": "(3,)",
        "run": "runs/a",
        "lr": "-1",
        "model": "package.module:Class",
    }
    assert arguments(settings, ["run"]) == [
        "runs/a",
        "--guide=amortized",
        "--guide.hidden-dims",
        "8",
        "9",
        "--guide.covariance=full",
        "--flip",
        "--guide.no-centre",
        "--hidden-dims",
        "3",
        "--lr=-1",
        "--model=package.module:Class",
    ]
    with pytest.raises(UsageError, match=r"'guide.width' is set twice, as 3 and 4"):
        arguments({"guide": "flow:width=3", "guide.width": "4"})


def test_runs_of_a_grid_and_their_table(capsys, monkeypatch):
    grid = ["--grid", "guide=amortized:hidden_dims=(8,)", "seed=0,1"]
    metrics = swept("ppca", *grid, *DIGITS, "--jobs", "2", "--out", "s")
    assert "2 runs, 0 of them finished before" in capsys.readouterr().out
    assert [row["seed"] for row in metrics["rows"]] == ["0", "1"]
    alone = run(
        ppca,
        "--data",
        "digits",
        "--epochs",
        "2",
        "--batch-size",
        "1000",
        "--guide",
        "amortized",
        "--guide.hidden-dims",
        "8",
        "--seed",
        "1",
        "--out",
        "o",
    )
    assert metrics["rows"][1]["test.elbo"] == pytest.approx(alone["test"]["elbo"], rel=1e-5)
    for row in metrics["rows"]:
        assert row["memory.peak_gib"] > 0
        assert row["seconds.train"] > 0
    found = [row["test.elbo"] for row in metrics["rows"]]
    (mean,) = metrics["over_seeds"]
    assert mean["test.elbo"] == pytest.approx(statistics.mean(found))
    assert mean["test.elbo_se"] == pytest.approx(abs(found[0] - found[1]) / 2)
    assert " ± " in Path("s/table.md").read_text()
    log = Path("s/logs/guide=amortized-hidden_dims-8+seed=0.log")
    assert "report:" in log.read_text()
    asked = pretend(monkeypatch)
    assert swept("ppca", *grid, *DIGITS, "--out", "s")["rows"] == metrics["rows"]
    assert asked == []
    grid[-1] = "seed=2,1"
    assert len(swept("ppca", *grid, *DIGITS, "--out", "s")["rows"]) == 2
    assert [run.point["seed"] for run in asked] == ["2"]


@pytest.mark.usefixtures("forked")
def test_what_a_failed_run_says(capsys):
    args = ["vae", "--grid", "lr=1e30", *DIGITS, "--out", "s"]
    refused(capsys, sweep, args, "1 of 1 runs failed", "logs", code=1)
    (row,) = json.loads(Path("s/metrics.json").read_text())["rows"]
    assert "training diverged" in row["error"]
    assert "training diverged" in Path("s/logs/lr=1e30.log").read_text()


def test_a_run_that_fails_does_not_stop_the_others(capsys, monkeypatch):
    asked = pretend(monkeypatch, {"lr=1": "diverged"})
    args = ["vae", "--grid", "lr=0.1,1,0.01", "--out", "s"]
    refused(capsys, sweep, args, "1 of 3 runs failed", "logs", code=1)
    assert len(asked) == 3
    rows = json.loads(Path("s/metrics.json").read_text())["rows"]
    assert [row["error"] for row in rows] == [None, "diverged", None]
    assert [row["test.elbo"] for row in rows] == [1.0, None, 3.0]
    assert Path("s/figure.png").stat().st_size > 0
    with pytest.raises(SystemExit):
        swept(*args)
    assert [run.name for run in asked[3:]] == ["lr=1"]


@pytest.mark.usefixtures("forked", "without_pictures")
def test_a_stopped_run_goes_on_from_its_checkpoint(monkeypatch):
    config = {"data": "digits", "epochs": "4", "guide": "amortized", "schedule": "constant"}
    config["batch_size"] = "500"
    shared = [f"{name}={value}" for name, value in config.items()]
    out = Path("s").absolute()
    (planned,) = plan("ppca", read_grid(["seed=5"], shared), out)
    assert planned.state == "to run"
    out.mkdir()
    save_plan("ppca", out)
    assert stopped(monkeypatch, 6, ppca, [*planned.arguments, "--out", str(planned.path)]) == 143
    assert planned.state == "to continue"
    metrics = swept("ppca", "--grid", "seed=5", "--with", *shared, "--out", "s")
    assert "continuing after epoch 1 of 4, step 3" in Path("s/logs/seed=5.log").read_text()
    whole = run(ppca, *planned.arguments, "--out", "whole")
    assert metrics["rows"][0]["test.elbo"] == pytest.approx(whole["test"]["elbo"], rel=1e-5)


def test_a_dry_run_lists_and_writes_nothing(capsys):
    args = ["vae", "--grid", "seed=0,1", "latent_dim=2,10", "--dry-run", "--out", "s"]
    cli(sweep.Config, sweep.main, args)
    printed = capsys.readouterr().out
    assert "to run: latent_dim=10+seed=1\n    python -m experiments.vae --seed=1" in printed
    assert "4 runs: 4 to run; none was started." in printed
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["vae"], ["the grid is empty", "--grid seed=0,1,2"]),
        (["vea", "--grid", "seed=0"], ["'vea' is unknown", "did you mean vae?"]),
        (["reproduce", "--grid", "seed=0"], ["writes no run directory"]),
        (["import-nvae", "--grid", "seed=0"], ["seed=0: Missing value for argument FILE"]),
        (["vae", "--grid", "latent=2,10"], ["latent=2: ", "--latent=2"]),
        (["vae", "--grid", "zzz=2"], ["zzz=2: ", "--zzz=2"]),
        (
            ["vae", "--grid", "seed=0", "--with", "covariance=full"],
            ["seed=0: ", "--covariance=full"],
        ),
        (["vae", "--grid", "latent_dim=2,ten"], ["latent_dim=ten", "--latent-dim"]),
        (["vae", "--grid", "latent_dim=2,0"], ["latent_dim=0", "at least 1"]),
        (["vae", "--grid", "network=mlp,rnn"], ["network=rnn", "rnn"]),
        (["vae", "--grid", "guide=flow,oracle"], ["guide=oracle", "'oracle' is unknown"]),
        (
            ["vae", "--grid", "guide=flow,exact"],
            ["guide=exact", "does not take the guide", "amortized"],
        ),
        (
            ["vae", "--grid", "guide=flow,amortized", "guide.covariance=full"],
            ["guide=flow", "--guide.covariance=full"],
        ),
        (["vae", "--grid", "flip=true,maybe"], ["flip=maybe"]),
        (["vae", "--grid", "seed=0,1,0"], ["the value 0 twice"]),
        (["vae", "--grid", "seed=0", "seed=1"], ["'seed' is given twice"]),
        (["vae", "--grid", "seed=0", "--with", "seed=1"], ["'seed' is given twice"]),
        (["vae", "--grid", "lr=0.1,1e-1"], ["the same run", "lr=0.1 and lr=1e-1"]),
        (["vae", "--grid", "seed=0,"], ["empty value"]),
        (["vae", "--grid", "seed"], ["NAME=VALUE"]),
        (["vae", "--grid", "seed=0", "--with", "out=a"], ["'out' is set by the sweep"]),
        (["vae", "--grid", "resume=true"], ["'resume' is set by the sweep"]),
        (["vae", "--grid", "seed=0", "--jobs", "0"], ["--jobs must be at least 1"]),
        (["evaluate", "--grid", "particles=1,2"], ["particles=1"]),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(capsys, args, words):
    refused(capsys, sweep, args, *words)
    assert not list(Path().iterdir())


def test_directories_that_hold_something_else(capsys, monkeypatch):
    pretend(monkeypatch)
    swept("vae", "--grid", "seed=0", "--out", "s")
    refused(capsys, sweep, ["ppca", "--grid", "seed=0", "--out", "s"], "a sweep of vae")
    other = ["vae", "--grid", "seed=0,1", "--with", "epochs=3", "lr=1", "--out", "s"]
    refused(capsys, sweep, other, "seed=0 was made with other options (epochs, lr)")
    Path("mine").mkdir()
    Path("mine/thesis.tex").write_text("")
    refused(capsys, sweep, ["vae", "--grid", "seed=0", "--out", "mine"], "other than a sweep")
    refused(
        capsys,
        sweep,
        ["vae", "--grid", "seed=0", "--out", "mine/thesis.tex"],
        "other than a sweep",
    )
    assert Path("mine/thesis.tex").exists()


def test_means_over_seeds_leave_failed_runs_out():
    rows = [
        {"seed": str(seed), "latent_dim": dim, "test.elbo": value, "error": error}
        for seed, dim, value, error in (
            (0, "2", 1.0, None),
            (1, "2", 2.0, None),
            (2, "2", 6.0, None),
            (0, "10", 4.0, None),
            (1, "10", None, "diverged"),
        )
    ]
    two, ten = over_seeds(rows, ["seed", "latent_dim"])
    assert two == {
        "latent_dim": "2",
        "runs": 3,
        "test.elbo": 3.0,
        "test.elbo_se": pytest.approx((7 / 3) ** 0.5),
    }
    assert ten == {"latent_dim": "10", "runs": 1, "test.elbo": 4.0, "test.elbo_se": None}
    axes = {"seed": ("0", "1", "2"), "latent_dim": ("2", "10")}
    (axis,) = picture([two, ten], axes).axes
    assert axis.get_xlabel() == "latent_dim"
    assert axis.get_ylabel() == "test.elbo [nats per data point]"
    assert picture(over_seeds(rows[:3], ["seed", "latent_dim"]), {"seed": ("0", "1")}) is None


def test_figures_of_different_images_are_not_compared(monkeypatch):
    out = Path("s").absolute()
    runs = plan("vae", read_grid(["binarize=none,static"], []), out)
    out.mkdir()
    save_plan("vae", out)
    for planned, pixels in zip(runs, ("grey", "binary"), strict=True):
        finish(planned, {"test": {"elbo": 1.0}, "protocol": {"pixels": pixels, "n": 360}})
    assert what_differs(runs) == ["pixels"]
    rows = rows_of(runs, {}, ["test.elbo", "test.nothing"])
    assert rows == [
        {"binarize": "none", "test.elbo": 1.0},
        {"binarize": "static", "test.elbo": 1.0},
    ]
    metrics = swept("vae", "--grid", "binarize=none,static", "--out", "s")
    assert metrics["differ"] == ["pixels"]
    assert "Not all rows are comparable" in Path("s/table.md").read_text()
    assert not Path("s/figure.png").exists()


def test_an_error_over_seeds_is_not_replaced_by_another_figure():
    """--figures test.elbo test.elbo_se: 1 and 3 have the mean 2 ± 1 over seeds, not ± 0.01."""
    rows = [
        {"seed": str(seed), "test.elbo": value, "test.elbo_se": 0.01}
        for seed, value in enumerate((1.0, 3.0))
    ]
    (line,) = over_seeds(rows, ["seed"])
    assert line["test.elbo"] == 2.0
    assert line["test.elbo_se"] == pytest.approx(1.0)


def test_a_mask_that_only_some_runs_have_makes_them_incomparable():
    """`sweep reconstruct --grid mask=none,half`; also given=none,labels on static pixels."""

    def run(**more):
        protocol = {"n": 360, "pixels": "grey", **more}
        return SimpleNamespace(metrics=lambda: {"protocol": protocol})

    assert what_differs([run(), run(mask="half")]) == ["mask"]
    assert what_differs([run(given=None), run(given=["label"])]) == ["given"]


class Ended:
    """A process that has ended well."""

    def wait(self) -> int:
        return 0


def leave_unfinished(path: str, options: dict) -> None:
    """What a killed command leaves: its options, no figures."""
    Path(path).mkdir(parents=True)
    Path(path, "config.json").write_text(json.dumps({"options": options}))


def tree(folder: str) -> dict[str, bytes]:
    paths = (path for path in Path(folder).rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in paths}


def test_a_second_sweep_changes_nothing_of_the_first(capsys, monkeypatch):
    pretend(monkeypatch)
    args = ["vae", "--grid", "seed=0,1", "--out", "s"]
    swept(*args)
    before = tree("s")
    other = [*args, "--with", "epochs=3"]
    with Lock(Path("s")):
        refused(capsys, sweep, other, "is being written by process")
    refused(capsys, sweep, other, "seed=0 was made with other options (epochs)")
    assert tree("s") == before


def test_each_run_is_compared_with_its_own_options(capsys, monkeypatch):
    asked = pretend(monkeypatch)
    args = ["vae", "--grid", "seed=0,1", "--out", "s"]
    swept(*args)
    config = Path("s/seed=1/config.json")
    content = json.loads(config.read_text())
    for changed in (
        {"asked": {**content["options"], "lr": 7}},
        {"options": {**content["options"], "lr": 7}},
    ):
        config.write_text(json.dumps(content | changed))
        refused(capsys, sweep, args, "seed=1 was made with other options (lr)")
    config.write_text(json.dumps(content | {"options": {**content["options"], "device": "cuda"}}))
    swept(*args)
    assert len(asked) == 2


def test_a_run_without_a_report_is_not_finished(monkeypatch):
    asked = pretend(monkeypatch)
    args = ["vae", "--grid", "seed=0,1", "--out", "s"]
    swept(*args)
    Path("s/seed=1/report.html").unlink()
    swept(*args)
    assert [run.name for run in asked] == ["seed=0", "seed=1", "seed=1"]


@pytest.mark.parametrize(("command", "aside"), [("evaluate", True), ("vae", False)])
def test_what_a_killed_sweep_left_is_not_removed(command, aside, monkeypatch):
    """A command that cannot be continued begins anew beside it; the others continue it."""
    shared = ["run=r"] if command == "evaluate" else []
    (planned,) = plan(command, read_grid(["seed=0"], shared), Path("s").absolute())
    leave_unfinished("s/seed=0", planned.options)
    Path("s/seed=0/notes.txt").write_text("mine")
    save_plan(command, Path("s"))
    started = []

    def start(words, **_):
        started.append(words)
        finish(planned, {})
        return Ended()

    monkeypatch.setattr(launching.subprocess, "Popen", start)
    assert launch(planned, 1).error is None
    assert ("--resume" in started[0]) != aside
    kept = "s/seed=0.unfinished-1/notes.txt" if aside else "s/seed=0/notes.txt"
    assert Path(kept).read_text() == "mine"


def test_a_run_of_a_killed_sweep_that_is_still_at_work_is_left_alone(capsys, monkeypatch):
    shared = ["run=r", "particles=5"]
    planned, other = plan("evaluate", read_grid(["seed=0,1"], shared), Path("s").absolute())
    leave_unfinished("s/seed=0", planned.options | {"particles": 60000})
    save_plan("evaluate", Path("s"))
    launched = []

    def popen(words, **_):
        (run,) = [word for word in words if "seed=1" in word and "s/" in word]
        launched.append(run)
        finish(other, {"test": {"elbo": 1.0}})
        return Ended()

    monkeypatch.setattr(launching.subprocess, "Popen", popen)
    args = ["evaluate", "--grid", "seed=0,1", "--with", *shared, "--out", "s"]
    before = tree("s/seed=0")
    with Lock(Path("s/seed=0")):
        refused(capsys, sweep, args, "1 of 2 runs failed", code=1)
    assert len(launched) == 1
    assert tree("s/seed=0") == before
    rows = json.loads(Path("s/metrics.json").read_text())["rows"]
    assert f"is being written by process {os.getpid()}" in rows[0]["error"]
    assert [row["test.elbo"] for row in rows] == [None, 1.0]
    finish(planned._replace(options=planned.options | {"particles": 60000}), {"test": {"elbo": 9}})
    refused(capsys, sweep, args, "seed=0 was made with other options (particles)")


@pytest.mark.usefixtures("without_pictures")
def test_an_evaluation_of_earlier_weights_is_not_taken_for_one_of_the_present_ones():
    short = ["--data", "digits", "--rows", "100", "--guide", "amortized", "--out", "a"]
    cli(ppca.Config, ppca.main, [*short, "--epochs", "1"])
    (one,) = plan("evaluate", read_grid(["run=a"], ["particles=2"]), Path("s").absolute())
    cli(evaluate.Config, evaluate.main, [*one.arguments, "--out", str(one.path)])
    assert one.state == "finished"
    one.check_options()
    cli(ppca.Config, ppca.main, [*short, "--epochs", "2", "--resume"])
    with pytest.raises(UsageError, match="epochs"):
        one.check_options()


@pytest.mark.usefixtures("without_pictures")
def test_figures_are_not_taken_for_those_of_other_data():
    Path("old").mkdir()
    np.save("old/x.npy", np.random.default_rng(0).normal(size=(20, 3)))
    shared = ["data=x.npy", "data_root=old"]
    (one,) = plan("pca", read_grid(["seed=0"], shared), Path("s").absolute())
    cli(pca.Config, pca.main, [*one.arguments, "--out", str(one.path)])
    assert one.state == "finished"
    one.check_options()
    other = one.options | {"data_root": "other"}
    one._replace(options=other | {"data_changed": "ok"}).check_options()
    with pytest.raises(UsageError, match="another --data-root"):
        one._replace(options=other).check_options()
