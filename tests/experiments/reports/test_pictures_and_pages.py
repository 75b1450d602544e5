"""Pictures, pages and tables say what they show, and show what was asked for."""

import json
import re
import shlex
import sys
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from torch import nn

import experiments
from experiments import compare, nvae, ppca, train, vae
from experiments.animations import evidence
from experiments.animations.evidence import COMPARED, _trained
from experiments.data import Data, as_data, load
from experiments.data.dataset import Source
from experiments.data.transforms import Scale
from experiments.errors import UsageError
from experiments.evaluation.oracle import rotate_to_largest_gap
from experiments.evaluation.sampling.samples import traversals
from experiments.explorer.latents import latents_page
from experiments.options.commands import COMMANDS
from experiments.options.parsing import parse
from experiments.options.words import words_of
from experiments.pca import error_curve
from experiments.reports import plots
from experiments.reports.markdown import csv_table, markdown_table, text_table
from experiments.reports.words.captions import caption
from experiments.runs.cli import cli
from experiments.runs.resuming import command_line
from experiments.tools import animate, explore, gaps, reconstruct, refit, sample
from experiments.training.pictures import lab_pictures
from experiments.training.saved_run import SavedRun
from guides import GUIDES
from ppl_models import PCA, PPCA, VAE, Program, data_plate
from tests.experiments.explorer.test_explore import in_node
from tests.shared.commands import refused, run
from tests.shared.explorer_runs import payload_of, spread_ppca, untrained

HOME = Path(experiments.__file__).parent
FEW = ["--images", "4", "--points", "30", "--particles", "5"]


pytestmark = pytest.mark.usefixtures("in_a_folder")


def rows_run() -> None:
    """PPCA of rows of numbers, in ``run``."""
    np.save("x.npy", np.random.default_rng(0).normal(size=(60, 6)))
    args = ["--data", "x.npy", "--latent-dim", "2", "--method", "closed_form"]
    cli(ppca.Config, ppca.main, [*args, "--out", "run"])


def test_no_page_of_rows_that_are_no_images(capsys):
    rows_run()
    refused(capsys, explore, ["run", *FEW], "images")


def test_a_page_names_the_classes():
    model = VAE((1, 4, 4), 2, hidden_dims=(5,))
    pixels = torch.randint(256, (30, 1, 4, 4), dtype=torch.uint8)
    source = Source(split="test", classes=("3", "5", "9"))
    data = Data(pixels, torch.arange(30) % 3, (Scale(255),), source=source).like(model)
    pair = {"model": "vae", "guide": "amortized", "guide_options": {}}
    saved = SavedRun(Path("run"), {"pair": pair}, model, GUIDES["amortized"](model), data, data)
    page, _ = latents_page([saved], explore.Config(run=Path("run"), particles=2, images=3))
    found = payload_of(page)
    assert found["images"]["labels"] == ["3", "5", "9"]  # as label_names of a report says
    assert found["classes"] == ["3", "5", "9"]  # of the legend


@pytest.mark.parametrize("of", ["aggregate", "traversals", "interpolation", "groups"])
def test_the_caption_says_what_was_drawn(of):
    untrained(Path("run"), "vae", "amortized", hidden_dims=[6])
    run(sample, "run", "--of", of, "--count", "4", "--steps", "3", "--out", "s")
    assert caption("samples") not in unescape(Path("s/report.html").read_text())


def test_the_caption_of_completions():
    untrained(Path("run"), "ppca", "exact", latent_dim=2)
    run(reconstruct, "run", "--mask", "half", "--images", "12", "--out", "m")
    assert caption("reconstructions") not in unescape(Path("m/report.html").read_text())


def test_no_caption_denies_that_classes_were_given():
    assert "not used in training" not in caption("encodings")  # --given labels uses them


def test_encodings_in_one_latent_can_be_seen():
    z, _ = plots.two_directions(torch.randn(50, 1))
    figure = plots.encodings(z, z, (None, None), "one latent")
    FigureCanvasAgg(figure).draw()
    axis = figure.axes[0]
    assert axis.get_position().height * figure.get_figheight() > 1  # inch; was 0.07
    assert axis.get_ylabel() != "z₂"  # there is none


def test_the_lines_of_one_latent_hold_their_share():
    found = in_node(
        "result = given.shares.map((share) =>"
        " Math.max(...ellipseOf([0, 0], [4, 0, 0], share).map((p) => p[0])));",
        {"shares": [0.5, 0.95]},
    )
    quantiles = dist.Normal(0.0, 2.0).icdf(torch.tensor([0.75, 0.975]))
    assert found == pytest.approx(quantiles.tolist(), rel=1e-3)  # 1.349, 3.920


def test_all_steps_lie_inside_the_picture():
    q = torch.zeros(2), torch.eye(2)
    parts = {name: [(0, 1.0, q), (5000, 0.5, q)] for name in COMPARED}
    spread = torch.tensor([[1.0, 0.5], [0.5, 1.0]])
    figure = evidence._figure(parts, (torch.zeros(2), spread), 10.0, 0.4, 5000)
    assert figure.axes[0].get_xlim()[1] >= 5001


def test_a_still_of_curves_has_all_of_their_points(monkeypatch):
    seen = []

    def drawn(config, train, test):
        seen.append(config.frames)
        return [Image.new("RGB", (4, 4))]

    monkeypatch.setitem(animate.DRAWN, "evidence", drawn)
    cli(animate.Config, animate.main, ["evidence", "--out", "a.png"])
    assert seen == [30]  # was 2: curves of three points, at steps 0, 1 and 1000


def test_frames_do_not_change_what_is_fitted():
    rows = load("digits")[0].rows(40)
    x = rows.pixels.reshape(40, -1).double() / 16
    model = rotate_to_largest_gap(PPCA.maximum_likelihood(x, 3)).requires_grad_(False)
    ends = []
    for frames in (2, 8):
        config = animate.Config(name="evidence", frames=frames, steps=30)
        ends.append(_trained(config, model, rows, "full_rank")[-1][2][0].detach())
    assert torch.equal(*ends)


def test_what_was_not_rotated_is_not_said_to_be():
    spread_ppca(Path("r"))
    args = ["--of", "r", "--guides", "exact", "--particles", "4", "--epochs", "1"]
    assert run(compare, *args, "--out", "c")["protocol"]["rotated"] is False


class Story(Program):
    """z ~ N(0, 1) of any shape, x ~ N(w sum z, 1)."""

    def __init__(self, shape):
        super().__init__()
        self.shape, self.w = shape, nn.Parameter(torch.ones(3))

    def forward(self, batch):
        with data_plate(batch):
            prior = dist.Normal(self.w.new_zeros(self.shape), 1.0).to_event(len(self.shape))
            z = pyro.sample("z", prior)
            rows = z.shape[: z.ndim - len(self.shape)]
            loc = z.reshape(*rows, -1).sum(-1, keepdim=True) * self.w
            return pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=batch.x)


@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_a_traversal_of_what_is_no_vector_is_refused(shape):
    with pytest.raises(UsageError, match="vector"):
        traversals(Story(shape), torch.zeros(shape), 5)


def test_both_models_of_a_page_are_rounded():
    model = spread_ppca(Path("a"))
    untrained(Path("b"), "ppca", "exact", like=model, latent_dim=2)
    args = ["a", "--with", "b", "--weights", "float16", "--out", "p.html", *FEW]
    cli(explore.Config, explore.main, args)
    first, second = payload_of(Path("p.html").read_text())["guides"]
    assert first["mean"] == second["mean"]  # the same exact posterior, of the same weights


class Classes(Program):
    """y ~ Categorical, x ~ N(m_y, 1): all latents are summed out."""

    def __init__(self):
        super().__init__()
        self.m = nn.Parameter(torch.randn(3, 4))

    def forward(self, batch):
        with data_plate(batch):
            even = dist.Categorical(logits=self.m.new_zeros(3))
            y = pyro.sample("y", even, infer={"enumerate": "parallel"})
            return pyro.sample("x", dist.Normal(self.m[y], 1.0).to_event(1), obs=batch.x)


def test_pictures_of_a_model_without_latents_to_encode():
    model, data = Classes().eval(), as_data(torch.randn(20, 4))
    guide, drawn = GUIDES["prior"](model), []
    here = SimpleNamespace(losses=[], figure=lambda name, _: drawn.append(name), warn=print)
    lab_pictures(here, model, (guide, guide), data.like(model), data.like(model), "elbo_enum")
    assert drawn == []  # was StopIteration, at the end of training


def test_rows_are_no_images():
    rows_run()
    run_args = ["run", "--images", "12", "--out", "r"]
    cli(reconstruct.Config, reconstruct.main, run_args)
    page = unescape(Path("r/report.html").read_text())
    assert "per row" in page
    assert "per image" not in page
    assert "test images" not in page
    few = ["--images", "12", "--particles", "30", "--ais-from", "none", "--tail-images", "3"]
    metrics = run(gaps, "run", *few, "--tail-draws", "2000", "--out", "g")
    assert [line["row"] for line in metrics["tails"]] == [0, 1, 2]
    page = unescape(Path("g/report.html").read_text())
    assert "% of the rows" in page
    assert "per row" in page
    assert "per image" not in page


def test_the_command_of_a_page_makes_the_page_again():
    untrained(Path("my run"), "vae", "amortized", hidden_dims=[6])
    args = ["my run", *FEW, "--weights", "float16", "--temperature", "0.5", "1.0", "--trust"]
    cli(explore.Config, explore.main, args)
    page = Path("my run/explore.html").read_text()
    command = unescape(re.findall(r"Made by <code>(.*?)</code>", page)[0])
    start, words = shlex.split(command)[:4], shlex.split(command)[4:]
    assert start == ["python", "-m", "experiments", "explore"]
    assert parse(explore.Config, explore.main, words) == parse(explore.Config, explore.main, args)


@pytest.mark.parametrize(
    ("argv", "command", "words"),
    [
        (["ppl", "bayesian-ppca", "--seed", "1"], "bayesian_ppca", "bayesian-ppca --seed 1"),
        ([f"{HOME}/bayesian_ppca.py", "--seed", "1"], "bayesian_ppca", "bayesian-ppca --seed 1"),
        ([f"{HOME}/__main__.py", "reproduce", "lab"], "pca", "reproduce lab"),
        ([f"{HOME}/reproduce.py", "lab"], "pca", "reproduce lab"),
        ([f"{HOME}/tools/evaluate.py", "runs/a"], "evaluate", "evaluate runs/a"),
        # scripts and notebooks that call vae.main
        (["/home/me/train.py"], "vae", "vae --epochs 5"),
        (["/home/me/train.py", "--lr", "3"], "vae", "vae --epochs 5"),
        (["/home/me/mine.py", "train"], "vae", "vae --epochs 5"),
        (["/lib/ipykernel_launcher.py", "-f", "kernel.json"], "vae", "vae --epochs 5"),
    ],
)
def test_the_command_of_a_report_is_one(argv, command, words, monkeypatch):
    monkeypatch.setattr(sys, "argv", argv)
    found = command_line(command, vae.Config(epochs=5))
    assert shlex.join(found) == f"python -m experiments {words}"
    assert words.split()[0] in COMMANDS


@pytest.mark.parametrize(
    ("module", "args"),
    [
        (vae, ["--data", "digits", "--batch-size", "500", "--no-compile", "--hidden-dims", "8"]),
        (vae, ["--data", "digits", "--objective", "iwae", "--guide.hidden-dims", "8", "9"]),
        (train, ["--model.latent-dim", "3", "--value-range", "0", "0.5", "--flip"]),
        (train, ["--model", "vae", "--guide", "flow", "--out", "my run"]),
        (compare, ["--no-rotate", "--runs", "a", "b c"]),
        (reconstruct, ["my run", "--images", "12"]),
        (animate, ["khat", "--frames", "7"]),
    ],
)
def test_options_are_words_of_a_command_line(module, args):
    config = parse(module.Config, module.main, args)
    assert parse(module.Config, module.main, words_of(config)) == config


def test_words_name_what_a_preset_or_the_data_would_change():
    assert words_of(vae.Config(data="digits")) == ["--data", "digits", "--batch-size", "500"]
    preset = nvae.Config.PRESETS["digits-tiny"]
    assert words_of(nvae.Config(preset="digits-tiny", **preset)) == ["--preset", "digits-tiny"]


def test_a_bar_in_a_cell_makes_no_column():
    row = markdown_table([{"error": "no q(z | x)", "runs": 1}]).splitlines()[-1]
    assert len(re.split(r"(?<!\\)\|", row)) == 4  # two cells and what is beside them


def test_rows_of_several_kinds_share_a_table():
    rows = [{"a": 1, "b": None}, {"c": 2.5, "a": 3}]
    assert markdown_table(rows).splitlines() == [
        "| a | b | c |",
        "| --- | --- | --- |",
        "| 1 | – |  |",
        "| 3 |  | 2.5 |",
    ]
    assert csv_table(rows) == "a,b,c\n1,,\n3,,2.5\n"
    assert text_table(rows) == "a  b    c\n1  –\n3     2.5"


def test_one_image_is_refused_by_the_options_name(capsys):
    args = ["khat", "--data", "digits", "--images", "1"]
    refused(capsys, animate, args, "--images must be at least 2")


def test_a_refit_records_its_own_options():
    untrained(
        Path("run"), "ppca", "exact", data={"objective": "iwae", "patience": 7}, latent_dim=2
    )
    args = ["run", "--guide", "amortized", "--guide.encoder", "linear", "--epochs", "1"]
    run(refit, *args, "--no-compile", "--out", "f")
    options = json.loads(Path("f/config.json").read_text())["options"]
    assert (options["objective"], options["patience"]) == (None, None)
    assert options["data"] == "digits"


def test_the_squared_error_by_components_is_right_where_one_column_is_large():
    """A column of incomes beside one of rates: the curve ended tens below zero."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 3, generator=generator) * torch.tensor([3e4, 1.0, 0.1])
    model = PCA(x, 3)
    (line,) = error_curve(model, x).axes[0].lines
    left = model.eigenvalues.flip(0).cumsum(0).flip(0)[1:].tolist()
    assert line.get_ydata().tolist() == pytest.approx([*left, 0.0], rel=0.02, abs=2e-3)
