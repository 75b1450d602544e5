"""Data that change after a run was made: every command on it refuses them by name."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from experiments import compare, ppca
from experiments.data import load
from experiments.data.record import changes, record_of
from experiments.runs.cli import cli
from experiments.runs.files import read_json
from experiments.tools import calibrate, evaluate, explore, gaps, reconstruct, refit, sample
from ppl_models import PPCA
from tests.shared.commands import refused

RNG = np.random.default_rng(0)
OPTIONS = ["--data", "folder", "--data-root", "x", "--guide", "amortized", "--no-compile"]


def images(*numbers: int, top: int = 255) -> None:
    for number in numbers:
        array = RNG.integers(0, top, (4, 4), np.uint8)
        Image.fromarray(array).save(f"x/{number:03}.png")


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Images, and a run on them."""
    torch.set_default_dtype(torch.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("home"))
        Path("x").mkdir()
        images(*range(20))
        cli(ppca.Config, ppca.main, [*OPTIONS, "--epochs", "1", "--out", "run"])
        return Path.cwd()


@pytest.fixture(autouse=True)
def _made(home, monkeypatch, tmp_path, without_pictures):
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)
    for name in ("x", "run"):
        shutil.copytree(home / name, name)


def test_files_that_are_added(capsys):
    before = read_json(Path("run/data.json"))
    assert [split for _, split, _ in before["files"]].count("test") == 4
    images(*range(20, 25))
    old = {name for name, split, _ in before["files"] if split == "train"}
    now = record_of(*load("folder", Path("x")))
    leaked = [name for name, split, _ in now["files"] if split == "test" and name in old]
    assert leaked, "the case at hand"
    words = [
        "run: the train data and the test data have changed",
        "5 files added (020.png, 021.png, 022.png, ...)",
        f"{len(leaked)} of the files now tested on were trained on ({leaked[0]}",
        "--data-changed ok",
    ]
    for module, more in (
        (evaluate, []),
        (sample, []),
        (reconstruct, []),
        (gaps, []),
        (calibrate, []),
        (refit, ["--guide", "mean_field"]),
    ):
        refused(capsys, module, ["run", *more, "--out", "new"], *words)
    refused(capsys, explore, ["run", "--out", "page.html"], *words)
    refused(capsys, compare, ["--of", "run", "--out", "new"], *words)
    resumed = [*OPTIONS, "--epochs", "2", "--out", "run", "--resume"]
    whole = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    refused(capsys, ppca, resumed, *words)
    assert whole == {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    go_on = ["run", "--data-changed", "ok", "--particles", "2", "--out", "new"]
    cli(evaluate.Config, evaluate.main, go_on)
    assert "warning: run: the train data and the test data have changed" in capsys.readouterr().out
    assert "5 files added" in read_json(Path("new/metrics.json"))["data_changed"]
    cli(ppca.Config, ppca.main, [*resumed, "--data-changed", "ok"])
    assert "5 files added" in read_json(Path("run/metrics.json"))["data_changed"]
    capsys.readouterr()
    cli(evaluate.Config, evaluate.main, ["run", "--particles", "2", "--out", "later"])
    assert "was resumed with other data" in capsys.readouterr().out, "its test images were seen"
    assert "5 files added" in read_json(Path("later/metrics.json"))["data_changed"]
    cli(compare.Config, compare.main, ["--runs", "later", "later", "--out", "table"])
    assert "warning: of later: the train data" in capsys.readouterr().out


@pytest.mark.parametrize("split", ["train", "test"])
def test_files_that_change_or_go(capsys, split):
    files = read_json(Path("run/data.json"))["files"]
    number = next(int(name[:3]) for name, of, _ in files if of == split)
    images(number)
    words = [f"the {split} data have changed", f"1 files changed ({number:03}.png)"]
    refused(capsys, evaluate, ["run", "--out", "new"], *words)
    resumed = [*OPTIONS, "--epochs", "2", "--out", "run", "--resume"]
    refused(capsys, ppca, resumed, *words)
    Path(f"x/{number:03}.png").unlink()
    refused(capsys, evaluate, ["run", "--out", "new"], f"1 files removed ({number:03}.png)")


def test_what_is_no_change():
    for number in range(20):  # a lossless copy under other names, in the same order
        Image.open(f"x/{number:03}.png").save(f"x/a{number:03}.bmp")
        Path(f"x/{number:03}.png").unlink()
    shutil.move("x", "y")
    args = ["run", "--data-root", "y", "--particles", "2", "--out", "new"]
    cli(evaluate.Config, evaluate.main, args)
    assert "data_changed" not in read_json(Path("new/metrics.json"))


def test_runs_without_a_record(capsys):
    Path("run/data.json").unlink()
    args = ["run", "--particles", "2", "--out"]
    cli(evaluate.Config, evaluate.main, [*args, "same"])
    assert "cannot be compared" not in capsys.readouterr().out
    protocol = read_json(Path("run/metrics.json"))
    Path("run/metrics.json").unlink()
    cli(evaluate.Config, evaluate.main, [*args, "half"])
    assert "its test data cannot be compared" in capsys.readouterr().out
    Path("run/metrics.json").write_text(json.dumps(protocol))
    images(0, 1, 2, 3, 4, 5, 6)
    refused(capsys, evaluate, [*args, "new"], "data have changed")


def test_a_record_that_is_damaged(capsys):
    for content in ("[]", "{", '{"splits": 3}', '{"splits": {}, "files": 3}', '{"splits": []}'):
        Path("run/data.json").write_text(content)
        if content == '{"splits": {}, "files": 3}':
            continue  # nothing to compare
        refused(capsys, evaluate, ["run", "--out", "new"], "data.json")


def test_refitted_runs_have_a_record_too(capsys):
    args = ["run", "--guide", "mean_field", "--guide.local-steps", "2", "--out", "again"]
    cli(refit.Config, refit.main, args)
    assert (
        read_json(Path("again/data.json"))["splits"] == read_json(Path("run/data.json"))["splits"]
    )
    images(3)
    refused(capsys, evaluate, ["again", "--out", "new"], "1 files changed (003.png)")


def test_what_is_given_is_the_same_for_a_model_in_float64():
    """refit records the data as its model observes them, other commands as they are read."""
    train, _ = load("digits", given="labels")
    seen = train.like(PPCA(64, 2).double())
    assert seen.given["label"].dtype == torch.float64
    assert seen.sha256 == train.sha256


def test_labels_and_arrays():
    y = np.arange(20) % 2
    np.savez("x.npz", x=np.arange(40.0).reshape(20, 2), y=y)
    then = record_of(*load("x.npz"))
    assert changes(then, record_of(*load("x.npz"))) is None
    assert json.loads(json.dumps(then)) == then
    np.savez("x.npz", x=np.arange(40.0).reshape(20, 2), y=1 - y)
    found = changes(then, record_of(*load("x.npz")))
    assert found == "the labels of the train data and the labels of the test data have changed"
    np.savez("x.npz", x=np.arange(1.0, 41.0).reshape(20, 2), y=y)
    assert "the train data and the test data" in changes(then, record_of(*load("x.npz")))
