"""The command nvae: presets, its runs and what other commands make of them, and bad input."""

import inspect
import itertools
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from experiments import nvae, train
from experiments.benchmarks.preset_table import preset_rows, preset_table
from experiments.data import load
from experiments.data.rows import Read, Rows
from experiments.errors import UsageError
from experiments.evaluation.bounds import per_image
from experiments.inference.svi import Pair
from experiments.options.constructors import FILLED_IN
from experiments.options.presets import PRESETS
from experiments.runs.checkpoint import latest
from experiments.runs.cli import cli
from experiments.tools import bench, evaluate, export_nvae, import_nvae, reconstruct, sample
from experiments.training.nvae import pretrained
from experiments.training.saved_run import build_model
from guides.hierarchies.top_down import TopDown
from ppl_models import NVAE
from tests.shared.commands import refused, run

TINY = [
    "--preset",
    "digits-tiny",
    "--rows",
    "200",
    "--epochs",
    "2",
    "--evaluate",
    "3",
    "--readjust",
    "2",
]


pytestmark = pytest.mark.usefixtures("in_a_folder")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run of two epochs, for the commands that look at it."""
    torch.set_default_dtype(torch.float32)
    out = tmp_path_factory.mktemp("nvae") / "run"
    cli(nvae.Config, nvae.main, [*TINY, "--no-compile", "--out", str(out)])
    return out


def test_a_run_and_what_it_leaves(trained):
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["model"] == "nvae"
    assert metrics["skipped_steps"] == [0, 0]
    assert metrics["test"]["iw_particles"] == 3
    assert metrics["test"]["iw_bound"] > metrics["test"]["elbo"]
    assert metrics["protocol"]["pixels"] == "binary"
    assert [row["shape"] for row in metrics["groups"]] == [[4, 2, 2], [4, 4, 4], [4, 4, 4]]
    records = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [record["skipped"] for record in records] == [0, 0]
    names = {path.stem for path in (trained / "figures").glob("*.png")}
    assert names == {"loss", "groups_kl", "reconstructions", "samples", "interpolation", "groups"}
    kept = sorted(path.name for path in (trained / "checkpoint").glob("batch_norms*"))
    assert kept == [f"batch_norms_T{t}.safetensors" for t in ("0.6", "0.7", "0.8", "0.9", "1")]


@pytest.mark.usefixtures("without_pictures")
def test_checkpointed_levels_train_the_same_run(trained):
    run(nvae, *TINY, "--checkpoint-levels", "--out", "again")
    paths = (trained, Path("again"))
    weights = [load_file(latest(path) / "weights.safetensors") for path in paths]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize(
    "options",
    [
        ["--guide", "bottom_up"],
        ["--guide.flows", "1", "--objective", "elbo"],
        ["--guide", "mean_field", "--binarize", "static", "--guide.local-steps", "3"],
        ["--balance", "none", "--regularise", "0.01", "--regularise-start", "1.0", "--ema", "0"],
        ["--model.depthwise", "--channels", "4", "--guide.no-residual"],
        ["--minutes", "0.02"],
    ],
    ids=" ".join,
)
@pytest.mark.usefixtures("without_pictures")
def test_other_guides_and_recipes(options):
    metrics = run(nvae, *TINY, *options, "--out", "run")
    assert metrics["guide"] == (options[1] if options[0] == "--guide" else "top_down")
    assert metrics["epochs"] >= 1


def test_other_commands_take_the_run(trained):
    metrics = run(evaluate, str(trained), "--particles", "4", "--out", "evaluated")
    assert metrics["test"]["iw_particles"] == 4
    again = run(evaluate, str(trained), "--particles", "3", "--out", "again")
    stored = json.loads((trained / "metrics.json").read_text())
    assert again["test"]["iw_bound"] == pytest.approx(stored["test"]["iw_bound"], abs=1e-5)
    run(reconstruct, str(trained), "--out", "reconstructed")
    few = ["--count", "4", "--steps", "3", "--readjust", "2"]
    run(sample, str(trained), *few, "--temperature", "0.6", "--out", "prior")
    for of in ("aggregate", "interpolation", "groups"):
        run(sample, str(trained), *few, "--of", of, "--out", of)
    groups = load_file("groups/samples.safetensors")
    assert {name: tuple(x.shape) for name, x in groups.items()} == dict.fromkeys(
        ("z0", "z1", "z2"), (3, 1, 8, 8)
    )


@pytest.mark.usefixtures("without_pictures")
def test_train_takes_the_model_too():
    small = [
        "--groups",
        "1",
        "1",
        "--blocks",
        "1",
        "--channels",
        "4",
        "--cells-per-block",
        "1",
        "--crop",
        "2",
        "--latents",
        "2",
        "--data",
        "digits",
        "--rows",
        "50",
        "--epochs",
        "1",
        "--binarize",
        "dynamic",
    ]
    metrics = run(train, "--model", "nvae", "--guide", "top_down", *small, "--out", "run")
    assert metrics["guide"] == "top_down"
    shown = run(reconstruct, "run", "--out", "shown")  # the border does not count here either
    error = metrics["test"]["squared_error"]
    assert shown["test"]["squared_error"] == pytest.approx(error, rel=1e-4)


def test_presets_have_the_published_sizes():
    rows = {row["preset"]: row for row in preset_rows(["mnist", "mnist-large", "mnist-small"])}
    assert rows["mnist"]["parameters"] == 18_853_518
    assert rows["mnist-large"]["parameters"] == 33_363_134
    assert rows["mnist"]["GFLOP"] == pytest.approx(1.585, abs=1e-3)
    assert rows["mnist-large"]["GFLOP"] == pytest.approx(2.534, abs=1e-3)
    assert rows["mnist-large"]["latents"] == 14_400
    assert rows["mnist-small"]["parameters"] <= 1_500_000
    assert (rows["mnist"]["convolutions"], rows["mnist-large"]["convolutions"]) == (183, 255)
    assert rows["mnist"]["groups"] == "5 of 4x4 + 10 of 8x8"


def test_the_list_names_every_preset(capsys, monkeypatch):
    monkeypatch.setattr(
        "experiments.benchmarks.preset_table.PRESETS", dict(itertools.islice(PRESETS.items(), 2))
    )
    cli(nvae.Config, nvae.main, ["--list"])
    lines = capsys.readouterr().out.splitlines()
    assert lines == preset_table().splitlines()
    assert [line.split()[0] for line in lines] == ["preset", "digits-tiny", "mnist-small"]
    assert not Path("runs").exists()


@pytest.mark.usefixtures("without_pictures")
def test_a_run_of_our_own_in_the_published_format():
    small = ["--preset", "digits-tiny", "--rows", "20", "--epochs", "1", "--batch-size", "20"]
    small += ["--evaluate", "1", "--readjust", "1", "--pad", "32"]
    run(nvae, *small, "--model.depthwise", "--model.cells-per-group", "1", "--out", "own")
    config = Path("own/config.json")  # as of a run with --minutes, which plans more epochs
    config.write_text(config.read_text().replace('"epochs": 1', '"epochs": 9'))
    cli(export_nvae.Config, export_nvae.main, ["own", "--file", "own.pt"])
    cli(import_nvae.Config, import_nvae.main, ["own.pt", "--out", "back"])
    first, second = (
        load_file(latest(Path(name)) / "weights.safetensors") for name in ("own", "back")
    )
    assert set(first) == set(second)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert json.loads(Path("back/metrics.json").read_text())["epochs"] == 1
    recipes = [
        json.loads(Path(name, "config.json").read_text())["pair"] for name in ("own", "back")
    ]
    for part in ("model_options", "guide_options"):
        ours, theirs = (recipe[part] for recipe in recipes)
        # theirs always crop two pixels of grey images; the guide's 0 was the model's channels
        known = [k for k in theirs if k != "crop" and (k, part) != ("channels", "guide_options")]
        assert {k: ours[k] for k in known} == {k: theirs[k] for k in known}


def test_cells_that_the_published_code_lacks_are_not_exported(trained, capsys):
    refused(capsys, export_nvae, [trained, "--file", "no.pt"], "depthwise=False")
    assert not Path("no.pt").exists()


@pytest.mark.usefixtures("without_pictures")
def test_packed_weights_come_back(trained, monkeypatch, capsys):
    Path("packed").mkdir()
    monkeypatch.setattr(pretrained, "HOME", Path("packed"))
    cli(
        export_nvae.Config,
        export_nvae.main,
        [str(trained), "--file", "packed/digits-tiny.safetensors"],
    )
    assert Path("packed/digits-tiny.safetensors").stat().st_size < 200_000
    metrics = run(
        nvae, "--pretrained", "digits-tiny", "--evaluate", "3", "--readjust", "2", "--out", "used"
    )
    assert metrics["epochs"] == 2  # of the weights
    stored = json.loads((trained / "metrics.json").read_text())
    assert metrics["test"]["iw_bound"] == pytest.approx(stored["test"]["iw_bound"], abs=0.05)
    weights = load_file(latest(Path("used")) / "weights.safetensors")
    for name, tensor in load_file(latest(trained) / "weights.safetensors").items():
        if tensor.is_floating_point():
            tensor = tensor.half().float()
        assert torch.equal(weights[name], tensor), name
    refused(
        capsys,
        nvae,
        ["--pretrained", "digits-tiny", "--model.channels", "4", "--out", "x"],
        "leave their options",
    )
    padded = ["--pretrained", "digits-tiny", "--pad", "12", "--out", "x"]
    refused(capsys, nvae, padded, "--pretrained digits-tiny is for images of other sides")
    another = ["--pretrained", "digits-tiny", "--preset", "mnist-small", "--out", "x"]
    refused(capsys, nvae, another, "leave out --preset mnist-small")


def test_weights_too_large_for_half_precision_are_not_packed():
    Path("run").mkdir()
    Path("run/config.json").write_text(json.dumps({"options": {}}))
    module = torch.nn.BatchNorm2d(2)
    module.running_var.fill_(1e5)
    with pytest.raises(UsageError, match="running_var of run overflows half precision"):
        pretrained.pack(Path("run"), module, Path("a.safetensors"))
    assert not Path("a.safetensors").exists()


def test_the_speed_of_a_step():
    out = ["--preset", "digits-tiny", "--steps", "1", "--batch-size", "4", "--out", "bench"]
    cli(bench.Config, bench.main, ["nvae-step", *out])
    (row,) = json.loads(Path("bench/metrics.json").read_text())["bench"]["nvae-step"]
    assert row["share"] > 0
    assert row["GFLOP/s of its convolutions"] > row["GFLOP/s of a step"] * 0.01


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--preset", "none"], ["preset 'none' is unknown", "mnist-small"]),
        ([*TINY, "--pad", "9"], ["[1, 9, 9]", "cannot be halved 2 times", "pad"]),
        ([*TINY, "--guide.flows", "-1"], ["flows=-1"]),
        ([*TINY, "--guide", "none"], ["guide 'none' is unknown", "top_down"]),
        ([*TINY, "--binarize", "none"], ["--binarize dynamic"]),
        ([*TINY, "--guide", "mean_field"], ["static"]),
        ([*TINY, "--guide", "point"], ["no optimum", "--binarize static", "refit"]),
        (["--preset", "cifar10", "--guide", "point"], ["train another guide, and refit that run"]),
        ([*TINY, "--groups", "0"], ["groups=(0,)", "at least 1"]),
        ([*TINY, "--ema", "1"], ["--ema must lie in [0, 1)"]),
        ([*TINY, "--clip", "0"], ["--clip must be above 0"]),
        ([*TINY, "--evaluate", "0"], ["--evaluate must be at least 1"]),
        (
            ["--preset", "cifar10", "--data", "digits", "--binarize", "none"],
            ["preset 'cifar10' is for RGB images", "1 channels", "mnist-small"],
        ),
        (["--pretrained", "cifar10", "--data", "digits"], ["is unknown", "mnist-small"]),
        (["--pretrained", "cats", "--data", "digits"], ["'cats' is unknown", "mnist-small"]),
        ([*TINY, "--bits", "5"], ["bits=5", "17 levels"]),
        ([*TINY, "--schedule", "constant"], ["--schedule", "constant"]),
        ([*TINY, "--particles=7"], ["--particles", "7"]),
    ],
)
def test_bad_input(capsys, args, words):
    refused(capsys, nvae, [*args, "--out", "run"], *words)


def test_rgb_for_a_grey_preset(capsys, monkeypatch):
    def colours(name, root, reading):
        rows = Rows(torch.zeros(8, 3, 32, 32, dtype=torch.uint8), None, 255)
        return Read(rows, rows)

    monkeypatch.setattr("experiments.data.loading.read", colours)
    refused(
        capsys,
        nvae,
        ["--preset", "mnist", "--data", "cifar10", "--out", "run"],
        "preset 'mnist' is for grey images",
        "3 channels",
        "cifar10",
    )
    refused(
        capsys,
        train,
        [
            "--model",
            "nvae",
            "--data",
            "cifar10",
            "--guide",
            "top_down",
            "--pad",
            "33",
            "--out",
            "r",
        ],
        "cannot be halved",
    )


def test_the_shipped_weights_know_digits(mnist_root):
    assert pretrained.available() == ["mnist-small"]
    file = pretrained.HOME / "mnist-small.safetensors"
    assert file.stat().st_size <= 4 * 2**20
    preset = PRESETS["mnist-small"]
    _, test = load("mnist", mnist_root, preset["pad"], preset["binarize"])
    few = test.rows(200).fixed()
    model = build_model("nvae", few, {**defaults_of(NVAE), **preset["model_options"]})
    guide_options = {**defaults_of(TopDown), **preset["guide_options"]}
    pair = Pair(model, TopDown(model, **guide_options))
    built = {
        "model": "nvae",
        "model_options": {**defaults_of(NVAE), **preset["model_options"]},
        "guide": "top_down",
        "guide_options": guide_options,
    }
    about = pretrained.load_pretrained("mnist-small", pair, built)
    assert about["epochs"] == preset["epochs"]
    pair.eval()
    found = per_image(pair.model, pair.guide, few.like(pair.model), particles=5)
    assert found["elbo"].mean() > -90
    assert found["squared_error"].mean() < 20


def defaults_of(kind: type) -> dict:
    """The options of a constructor that a run records, at their defaults."""
    parameters = inspect.signature(kind).parameters.values()
    return {p.name: p.default for p in parameters if p.name not in FILLED_IN}
