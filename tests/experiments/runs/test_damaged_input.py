"""Damaged runs and data: named in one line; and what failed to start leaves nothing behind."""

import json
import os
import shutil
from pathlib import Path

import pytest

from experiments import compare, pca, ppca, reproduce
from experiments.data import load
from experiments.errors import TrainingError, UsageError, in_words, is_bad_input, one_line
from experiments.runs.checkpoint import latest
from experiments.runs.cli import cli
from experiments.runs.directory import RunDirectory
from experiments.runs.files import read_json
from experiments.tools import evaluate, export_nvae, sample
from tests.experiments.test_bad_input import DIGITS
from tests.shared.commands import refused
from tests.shared.idx import idx_bytes
from tests.shared.runs import copied

SMALL = [*DIGITS, "--rows", "20"]


pytestmark = pytest.mark.usefixtures("in_a_folder", "without_pictures")


@pytest.fixture
def saved() -> Path:
    return copied("run", ppca, [*SMALL, "--guide", "amortized"])


def test_a_failed_start_leaves_nothing(capsys):
    Path("empty").mkdir()
    nowhere = ["--data", "folder", "--data-root", "nowhere"]
    for out in (["--out", "new"], ["--out", "new/below/it"], ["--out", "empty"], []):
        refused(capsys, pca, [*nowhere, *out], "not a directory")  # it looks at what is left
    late = [*SMALL, "--beta", "2", "--objective", "iwae"]  # refused after config.json
    refused(capsys, ppca, [*late, "--out", "new"], "--kl-anneal")
    refused(capsys, evaluate, ["nowhere"], "nowhere does not exist")
    table = ["lab", "--data", "mnist", "--data-root", "nul", "--out", "table"]
    Path("nul/MNIST/raw").mkdir(parents=True)
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        Path("nul/MNIST/raw", name).write_bytes(b"no")
    refused(capsys, reproduce, table, "not an IDX file")


def test_what_was_begun_is_kept(capsys, saved):
    before = {path: path.read_bytes() for path in saved.rglob("*") if path.is_file()}
    for begun in (True, False):
        place = RunDirectory("ppca", saved, resume=True)
        place.empty(begun)
        place.remove()
        assert before == {path: path.read_bytes() for path in saved.rglob("*") if path.is_file()}
    place = RunDirectory("ppca", Path("new"))
    Path("new/metrics.json").write_text("{}")
    place.empty(begun=False)
    place.remove()
    assert Path("new/metrics.json").exists(), "what was measured"


def test_a_resume_that_fails_changes_nothing(capsys, saved):
    again = [*SMALL, "--guide", "amortized", "--out", "run", "--resume", "--epochs", "2"]
    shutil.rmtree(saved / "checkpoint/00001")
    kept = latest(saved)
    for path, content, words in (
        (kept / "state.pt", "no", "state.pt is damaged"),
        (kept / "weights.safetensors", "", "weights.safetensors is damaged"),
        (kept / "manifest.json", "{}", "manifest.json cannot be read (it lacks 'sha256')"),
        (saved / "config.json", "[" * 100_000, "config.json cannot be read"),
    ):
        whole = path.read_bytes()
        path.write_text(content)
        before = {path: path.read_bytes() for path in saved.rglob("*") if path.is_file()}
        with pytest.raises(SystemExit) as end:
            cli(ppca.Config, ppca.main, again)
        assert end.value.code == 2
        assert words in capsys.readouterr().err
        assert before == {path: path.read_bytes() for path in saved.rglob("*") if path.is_file()}
        path.write_bytes(whole)


@pytest.mark.parametrize(
    ("part", "name", "value", "words"),
    [
        ("pair", "model", None, "pair.model is None"),
        ("pair", "model_options", [], "pair.model_options is []"),
        ("pair", "model_options", {"latent_dim": "x"}, "does not describe a model and guide"),
        ("pair", "guide_options", {"speed": 3}, "does not describe a model and guide"),
        ("pair", "guide_options", {"activation": "foo"}, "activation is 'foo', not one of relu"),
        ("pair", "guide", "oracle", "does not describe a model and guide"),
        ("options", "pad", "x", "options.pad is 'x'"),
        ("options", "binarize", "sometimes", "'sometimes', not one of none, dynamic, static"),
        ("options", "rows", True, "options.rows is True"),
        ("options", "binarize_seed", 10**30, "binarize_seed=1000"),
        ("options", "dtype", "cpu", "dtype is 'cpu'"),
        ("options", "lr", float("nan"), "NaN is not a finite number"),
    ],
)
def test_a_changed_config(capsys, saved, part, name, value, words):
    config = json.loads((saved / "config.json").read_text())
    config[part][name] = value
    (saved / "config.json").write_text(json.dumps(config))
    refused(
        capsys, evaluate, ["run", "--out", "new"], "config.json" if "=" not in words else "", words
    )
    del config[part][name]
    (saved / "config.json").write_text(json.dumps(config))
    if name != "lr":
        refused(capsys, sample, ["run", "--out", "new"], f"no {name}")


def test_what_no_json_file_of_a_run_holds():
    for content in ("[" * 100_000, "{", "NaN", "1e999", "\xff"):
        Path("config.json").write_bytes(content.encode("latin-1"))
        with pytest.raises(UsageError, match=r"config\.json cannot be read"):
            read_json(Path("config.json"))


def test_changed_figures_are_not_compared(capsys, saved):
    cli(evaluate.Config, evaluate.main, ["run", "--particles", "2", "--out", "other"])
    runs = ["--runs", "run", "other", "--out", "new"]
    whole = json.loads(Path("other/metrics.json").read_text())
    for change in ({"guide": 1}, {"protocol": []}, {"test": 3}, {"parameters": "x"}):
        for name, value in change.items():
            kept = {k: v for k, v in whole.items() if k != name}
            for figures in (kept, {**kept, name: value}):
                if figures == {**kept, "guide": 1}:
                    continue  # any word may name a guide
                Path("other/metrics.json").write_text(json.dumps(figures))
                refused(capsys, compare, runs, "other", "")
    Path("other/metrics.json").write_text(json.dumps(whole))
    Path("other/per_image.safetensors").write_bytes(b"no")
    refused(capsys, compare, runs, "other/per_image.safetensors cannot be read")


def test_export_names_what_it_cannot_read_or_write(capsys, saved):
    refused(capsys, export_nvae, ["run"], "not an NVAE run with the guide top_down")
    config = json.loads((saved / "config.json").read_text())
    config["pair"] |= {"model": "nvae", "guide": "top_down"}
    (saved / "config.json").write_text(json.dumps(config))
    refused(
        capsys, export_nvae, ["run"], "weights.safetensors cannot be read (it lacks 'model.top')"
    )


def idx(path: Path, *shape: int, content: bytes | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(idx_bytes(shape, content))


def test_idx_files_that_do_not_belong_together(capsys):
    raw = Path("data/KMNIST/raw")
    args = ["--data", "kmnist", "--data-root", "data", "--latent-dim", "1", "--out", "new"]
    train = raw / "train-images-idx3-ubyte"

    def written() -> None:
        for prefix in ("train", "t10k"):
            idx(raw / f"{prefix}-images-idx3-ubyte", 3, 2, 2)
            idx(raw / f"{prefix}-labels-idx1-ubyte", 3)

    written()
    idx(train, 3, 2, 3)
    refused(capsys, pca, args, "[1, 2, 3] to train on and [1, 2, 2] to test on")
    idx(train, 3, 0, 2)
    refused(capsys, pca, args, "3 images of 0x2")
    idx(train, 2**31, 2**31, 4, content=b"")  # 2^64 bytes, 0 in the arithmetic of 64 bits
    refused(capsys, pca, args, "16 bytes where its header says 18446744073709551632")
    written()
    with train.open("r+b") as file:  # a hole: nothing of it may be read
        file.truncate(2**42)
    refused(capsys, pca, args, "4398046511104 bytes where its header says 28")
    idx(train, 1, 2, 2)
    idx(raw / "train-labels-idx1-ubyte", 1)
    refused(capsys, pca, args, "a single image to train on")


def test_a_folder_has_two_images_in_each_split(capsys):
    from PIL import Image

    Path("images").mkdir()
    args = ["--data", "folder", "--data-root", "images", "--latent-dim", "1", "--out", "new"]
    for number in range(4):
        refused(capsys, pca, args, f"{number} images; at least 4")
        Image.new("L", (4, 4), number).save(f"images/{number}.png")
    assert [len(split) for split in load("folder", Path("images"))] == [2, 2]


def test_errors_in_words():
    assert one_line("a\n b\x1b\u202e") == "a b\\x1b\\u202e"
    assert len(one_line("w" * 10_000)) < 2100
    assert in_words(MemoryError()).startswith("there is not enough memory")
    assert "not enough memory" in in_words(RuntimeError("can't allocate memory: you tried"))
    assert "PPL_DEBUG=1" in in_words(RuntimeError("something else"))
    for path, code in ((Path("n" * 300), True), (Path("none/at/all"), True)):
        with pytest.raises(OSError, match="n") as caught:
            path.open()
        assert is_bad_input(caught.value) is code
        assert in_words(caught.value).startswith(f"{path}: ")
    assert not is_bad_input(OSError(28, os.strerror(28)))
    assert not is_bad_input(TrainingError("it diverged"))
