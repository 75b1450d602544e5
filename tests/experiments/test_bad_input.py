"""Whatever a user gets wrong: one line that says what and what would be right, and exit code 2."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from experiments import compare, pca, ppca, reproduce, train, vae
from experiments.runs.checkpoint import latest
from experiments.runs.cli import cli
from experiments.tools import calibrate, evaluate, reconstruct, refit, sample
from ppl_models import PPCA
from tests.shared.commands import refused
from tests.shared.runs import copied

DIGITS = ["--data", "digits", "--epochs", "1"]


pytestmark = pytest.mark.usefixtures("in_a_folder")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--latent-dim", "0"], ["--latent-dim must be at least 1, got 0"]),
        (["--latent-dim", "-3"], ["--latent-dim", "-3"]),
        (["--latent-dim", "65"], ["latent_dim=65", "data_dim=64"]),
        (["--epochs", "0"], ["--epochs must be at least 1"]),
        (["--epochs", "many"], ["many", "epochs"]),
        (["--batch-size", "-1"], ["--batch-size"]),
        (["--lr", "0"], ["--lr must be above 0"]),
        (["--lr", "nan"], ["--lr"]),
        (["--warmup", "1"], ["--warmup", "[0, 1)"]),
        (["--rows", "0"], ["--rows"]),
        (["--rows", "5000"], ["rows=5000", "1437"]),
        (["--pad", "4"], ["pad=4 is smaller", "[8, 8]"]),
        (["--memory", "0"], ["--memory"]),
        (["--particles", "0"], ["--particles"]),
        (["--seed", "-1"], ["--seed"]),
        (["--device", "quantum"], ["--device quantum"]),
        (["--guide", "oracle"], ["guide 'oracle' is unknown", "prior, point, exact"]),
        (["--guide", "amortized", "--guide.encoder", "conv"], ["conv"]),
        (["--guide", "exact", "--guide.encoder", "mlp"], ["--guide.encoder"]),
        (["--guide", "mean_field", "--guide.local-lr", "-1"], ["local_lr=-1.0"]),
        (["--guide", "mean_field", "--memory", "5e-6"], ["more than --memory"]),
        (["--guide", "mean_field", "--binarize", "dynamic"], ["--binarize static"]),
        (["--guide", "point", "--objective", "elbo"], ["does not fit", "log_joint"]),
        (["--guide", "exact", "--objective", "log_joint"], ["does not fit", "elbo, "]),
        (["--objective", "evidence"], ["'evidence' is unknown", "iwae"]),
        (["--method", "closed_form", "--latent-dim", "62"], ["latent_dim=62", "rank"]),
        (["--data", "cats"], ["cats", "digits"]),
        (["--nonsense"], ["--nonsense"]),
        (["--resume"], ["--resume needs --out"]),
        (["--rows", "1"], ["rows=1 must lie between 2"]),
        (["--device", "meta"], ["--device meta"]),
        (["--pad", "100000"], ["--pad must be at most"]),
        (["--seed", "9" * 30], ["--seed must be below"]),
        (["--guide", "mean_field", "--guide.local-lr", "nan"], ["--guide.local-lr", "finite"]),
        (["--beta", "inf"], ["--beta must be finite"]),
        (["--free-bits", "nan"], ["--free-bits must be finite"]),
        (["--particles", "9" * 30], ["--particles must be below 2^63"]),
        (["--binarize-seed", str(2**32)], ["--binarize-seed must be below 2^32"]),
        (["--rows", "many"], ["--rows", "'many' is no INT"]),
        (["--data", "no\nsuch\x1b[31m"], ["no", "such"]),
        (["--data-root", "nul\0"], ["nul\\x00", "UTF-8"]),
        (["--data-root", "\udcff"], ["\\udcff", "UTF-8"]),
        (["--out", "n" * 300], ["cannot be written"]),
        (["--out", "new/" + "n" * 300], ["cannot be written"]),
    ],
)
def test_ppca(capsys, args, words):
    refused(capsys, ppca, [*DIGITS, *args], *words)


def test_models(capsys):
    refused(capsys, train, [*DIGITS, "--model", "ppcaa"], "'ppcaa' is unknown", "ppca")
    refused(capsys, train, [*DIGITS, "--model", "no.such:Model"], "cannot be imported")
    refused(capsys, train, [*DIGITS, "--model", "os:getcwd"], "not a torch.nn.Module class")
    refused(capsys, train, [*DIGITS, "--model", ":Model"], "':Model' cannot be imported")
    refused(capsys, train, [*DIGITS, "--model", "..:Model"], "'..:Model' cannot be imported")
    refused(capsys, train, [*DIGITS, "--model", "torch.nn:Softmax"], "cannot generate data")


def test_a_run_that_diverges_ends_with_code_1(capsys):
    refused(capsys, ppca, [*DIGITS, "--epochs", "3", "--lr", "1e30", "--out", "a"], "", code=1)
    assert not Path("a/metrics.json").exists()


def test_data_folders(capsys, tmp_path):
    from PIL import Image

    refused(capsys, pca, ["--data", "folder"], "--data-root")
    refused(capsys, pca, ["--data", "folder", "--data-root", "none"], "not a directory")
    images = tmp_path / "images"
    images.mkdir()
    args = ["--data", "folder", "--data-root", images]
    refused(capsys, pca, args, "0 images")
    Image.new("L", (4, 4)).save(images / "a.png")
    Image.new("L", (4, 5)).save(images / "b.png")
    refused(capsys, pca, args, "one size", "a.png", "b.png")
    whole = (images / "a.png").read_bytes()
    (images / "b.png").write_bytes(whole[: len(whole) // 2])
    refused(capsys, pca, args, "b.png", "damaged")


def idx(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_damaged_files(capsys, tmp_path):
    raw = tmp_path / "FashionMNIST/raw"
    labels = bytes((0, 0, 8, 1, 0, 0, 0, 2, 7, 3))
    images = bytes((0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2)) + bytes(8)
    for prefix in ("train", "t10k"):
        idx(raw / f"{prefix}-labels-idx1-ubyte", labels)
        idx(raw / f"{prefix}-images-idx3-ubyte", images)
    args = ["--data", "fashion_mnist", "--data-root", tmp_path, "--latent-dim", "1"]
    for damaged, word in (
        (images[:-1], "23 bytes"),
        (b"P5 2 2 255", "not an IDX"),
        (b"", "not an IDX"),
    ):
        idx(raw / "train-images-idx3-ubyte", damaged)
        refused(capsys, pca, args, word, "--data-root", "--data digits")
    known = tmp_path / "MNIST/raw"
    for prefix in ("train", "t10k"):
        idx(known / f"{prefix}-labels-idx1-ubyte", labels)
        idx(known / f"{prefix}-images-idx3-ubyte", images)
    refused(capsys, pca, ["--data", "mnist", "--data-root", tmp_path], "checksum")


def test_a_failed_download_names_both_ways_out(capsys, monkeypatch):
    import torchvision.datasets

    def unreachable(*args, **options):
        raise RuntimeError("Error downloading\ntrain-images")

    monkeypatch.setattr(torchvision.datasets, "MNIST", unreachable)
    refused(
        capsys,
        pca,
        ["--data", "mnist", "--data-root", "nowhere"],
        "cannot be downloaded",
        "--data-root",
        "--data digits",
    )


def test_a_torchvision_that_does_not_fit_torch(capsys, monkeypatch):
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name.startswith("torchvision"):
                raise RuntimeError("operator torchvision::nms does not exist")

    for name in [name for name in sys.modules if name.startswith("torchvision")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    refused(capsys, pca, ["--data", "cifar10"], "torchvision::nms", "pip install")


@pytest.fixture
def saved() -> Path:
    return copied("run", ppca, [*DIGITS, "--guide", "amortized"])


def test_output_directories(capsys, saved):
    refused(capsys, ppca, [*DIGITS, "--out", "run"], "is not empty")
    Path("file").write_text("")
    refused(capsys, ppca, [*DIGITS, "--out", "file"], "is not empty")
    refused(capsys, ppca, [*DIGITS, "--out", "file/below"], "cannot be written")


def test_saved_runs(capsys, saved):
    out = ["--out", "new"]
    refused(capsys, evaluate, ["nowhere", *out], "nowhere does not exist")
    refused(capsys, evaluate, ["run", "--particles", "-1", *out], "--particles")
    refused(capsys, evaluate, ["run", "--memory", "1e-12", *out], "too small for one image")
    refused(
        capsys,
        sample,
        ["run", "--temperature", "0", "--out", "n1"],
        "--temperature must be above 0",
    )
    refused(capsys, sample, ["run", "--count", "0", "--out", "n2"], "--count")
    refused(capsys, refit, ["run", "--guide", "none", "--out", "n3"], "guide 'none' is unknown")
    refused(capsys, reconstruct, ["run", "--mask", "third", "--out", "n4"], "third")
    other = [*DIGITS, "--guide", "amortized", "--out", "run", "--resume", "--lr", "0.5"]
    refused(capsys, ppca, other, "lr differ")
    config = json.loads((saved / "config.json").read_text())
    for content, word in (
        ({**config, "format": 99}, "format 99"),
        ([], "it is not a JSON object"),
        ({"format": 2, "pair": {}}, "not that of a run"),
    ):
        (saved / "config.json").write_text(json.dumps(content))
        refused(capsys, evaluate, ["run", "--out", "n5"], word)
    (saved / "config.json").write_text("{")
    refused(capsys, evaluate, ["run", "--out", "n6"], "cannot be read")
    (saved / "config.json").write_text(json.dumps(config))
    weights = latest(saved) / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    refused(capsys, evaluate, ["run", "--out", "n7"], "weights.safetensors")
    weights.unlink()
    refused(capsys, evaluate, ["run", "--out", "n8"], "weights.safetensors cannot be read")
    shutil.rmtree(saved / "checkpoint")
    refused(capsys, evaluate, ["run", "--out", "n9"], "no checkpoint")


def test_a_pca_run_has_no_guide(capsys):
    cli(pca.Config, pca.main, ["--data", "digits", "--out", "run"])
    refused(capsys, evaluate, ["run", "--out", "new"], "no model and guide")


def test_compare(capsys):
    refused(capsys, compare, ["--guides", "exact,cleverest"], "cleverest", "mean_field")
    refused(capsys, compare, ["--guides", "amortized:linear"], "option=value")
    refused(capsys, compare, ["--guides", "exact,exact"], "twice")
    refused(capsys, compare, ["--seeds", "0"], "--seeds")
    refused(capsys, compare, ["--guides", "mean_field:local_steps=abc"], "local_steps=abc", "500")
    refused(capsys, compare, ["--guides", "point", "--decoder", "learned"], "no optimum")
    refused(capsys, compare, ["--model", "vae", "--decoder", "frozen"], "no closed-form")
    conv = ["--guides", "exact,amortized:encoder=conv", "--out", "again"]
    refused(capsys, compare, conv, "convolutions need images")
    refused(capsys, compare, conv, "convolutions need images")
    refused(capsys, compare, ["--guides", "exact:speed=3", "--out", "new"], "speed")


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["dance"], 2, "'dance' is unknown"),
        (["a\nb"], 2, "'a b' is unknown"),
        (["ppca", "--data", "digits", "--guide", "none"], 2, "guide 'none'"),
        (["--help"], 0, ""),
    ],
)
def test_as_a_process(args, code, words):
    done = subprocess.run(
        [sys.executable, "-m", "experiments", *args],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "default"},
    )
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == (1 if code else 0)


def test_library_refuses_arrays_it_cannot_use():
    from experiments.data import as_data
    from experiments.errors import UsageError

    for x, word in (
        (torch.tensor([[1.0, float("nan")]]), "row 0"),
        (torch.tensor([[0.0, 1.0], [float("inf"), 1.0]]), "row 1"),
        (torch.zeros(0, 5), "rows"),
        (torch.zeros(5), "N, ..."),
        (torch.zeros(5, 2, dtype=torch.complex64), "complex"),
        ([["a", "b"]], "numeric"),
    ):
        with pytest.raises(UsageError, match=word):
            as_data(x)
    with pytest.raises(UsageError, match="observes"):
        as_data(torch.zeros(5, 3)).like(PPCA(4, 2))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--temperature", "0"], ["--temperature must be above 0, got 0.0"]),
        (["--temperature", "1", "-2"], ["--temperature", "-2"]),
        (["--of", "interpolation", "--between", "0", "360"], ["no test image 360", "0 to 359"]),
        (["--of", "interpolation", "--between", "-1", "3"], ["no test image -1"]),
        (["--of", "interpolation", "--steps", "1"], ["--steps must be at least 2"]),
        (["--of", "dreams"], ["dreams", "aggregate"]),
        (["--count", "0"], ["--count must be at least 1"]),
        (["--temperature"], ["--temperature needs at least one value"]),
        (["--of", "groups", "--temperature", "1"], ["--temperature is for --of prior, not"]),
    ],
)
def test_sampling(capsys, saved, args, words):
    refused(capsys, sample, [saved, *args], *words)


def test_evaluate(capsys, saved):
    refused(capsys, calibrate, [saved, "--draws", "0"], "--draws must be at least 9")
    refused(capsys, evaluate, [saved, "--particles", "0"], "--particles must be at least 1")
    refused(capsys, evaluate, [saved, "--particles", "-5"], "--particles")
    refused(capsys, evaluate, [saved, "--memory", "1e-9"], "too small for one image")


@pytest.mark.usefixtures("without_pictures")
def test_runs_that_cannot_share_a_table(capsys, saved):
    refused(capsys, compare, ["--runs", saved, "nowhere"], "nowhere")
    binary = [*DIGITS, "--likelihood", "bernoulli", "--binarize", "static"]
    cli(vae.Config, vae.main, [*binary, "--out", "binary"])
    refused(capsys, compare, ["--runs", saved, "binary"], "pixels grey against binary")
    cli(vae.Config, vae.main, [*binary, "--binarize-seed", "7", "--out", "other"])
    refused(capsys, compare, ["--runs", "binary", "other"], "binarize_seed 1 against 8")
    cli(evaluate.Config, evaluate.main, [str(saved), "--split", "train", "--out", "train"])
    refused(capsys, compare, ["--runs", saved, "train"], "split test against train")
    rows = ["--guide", "mean_field", "--guide.local-steps"]
    for steps in ("2", "3"):
        cli(ppca.Config, ppca.main, [*DIGITS, *rows, steps, "--out", f"rows{steps}"])
    refused(capsys, compare, ["--runs", "rows2", "rows3"], "local_steps 2 against 3")
    cli(ppca.Config, ppca.main, [*DIGITS, "--pad", "12", "--out", "padded"])
    refused(capsys, compare, ["--runs", saved, "padded"], "shape [1, 8, 8] against [1, 12, 12]")
    refused(capsys, compare, ["--runs"], "at least two runs")
    cli(sample.Config, sample.main, [str(saved), "--out", "sampled"])
    refused(capsys, compare, ["--runs", saved, "sampled"], "no figures of images")


def test_reproduce(capsys, saved):
    refused(capsys, reproduce, ["iwae", "--resume"], "--resume needs --out")
    refused(capsys, reproduce, ["iwae", "--entries", "iwae-7"], "row 'iwae-7' is unknown", "vae-1")
    refused(capsys, reproduce, ["lab", "--out", saved], "is not empty")
    refused(capsys, reproduce, ["lab", "--out", saved, "--resume"], "contains no table")
    refused(capsys, reproduce, ["tables"], "tables")


def test_what_cannot_be_centred(capsys):
    args = [*DIGITS, "--model", "ppca", "--centre"]
    refused(capsys, train, [*args, "--guide", "amortized"], "--centre is for a VAE")
    beta = [*DIGITS, "--likelihood", "beta", "--dequantize", "--centre"]
    refused(capsys, vae, beta, "only an mlp decoder under gaussian")


def test_a_failed_download_leaves_nothing(monkeypatch, tmp_path):
    import torchvision.datasets

    from experiments.data.downloads import fetch
    from experiments.errors import UsageError

    def half(root, **options):
        Path(root, "MNIST/raw").mkdir(parents=True, exist_ok=True)
        Path(root, "MNIST/raw/train.gz").write_bytes(b"half")
        raise RuntimeError("connection reset")

    monkeypatch.setattr(torchvision.datasets, "MNIST", half)
    with pytest.raises(UsageError, match="connection reset"):
        fetch("MNIST", tmp_path / "new/data")
    assert not (tmp_path / "new").exists()
    kept = tmp_path / "old/MNIST/own.txt"
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    with pytest.raises(UsageError, match="connection reset"):
        fetch("MNIST", tmp_path / "old")
    assert [path for path in (tmp_path / "old").rglob("*") if path.is_file()] == [kept]
