"""Pictures that move: each of them in a few frames, and the laws that they show."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from PIL import Image
from torch.distributions import Normal, kl_divergence

from experiments.animations.evidence import COMPARED, _trained
from experiments.animations.frames import DIGITS, picture, save_gif, taken, training
from experiments.animations.posterior import FITTED, _figure, fitted, kl, plane, setting
from experiments.data import load
from experiments.evaluation.oracle import diagonal_gap, rotate_to_largest_gap
from experiments.inference.svi import SVI
from experiments.runs.cli import cli
from experiments.tools import animate
from guides import Amortized
from ppl_models import PPCA
from tests.shared.commands import refused

pytestmark = pytest.mark.usefixtures("in_a_folder")


def frames_of(path: str) -> list[np.ndarray]:
    with Image.open(path) as shown:
        pictures = []
        for i in range(shown.n_frames):
            shown.seek(i)
            pictures.append(np.asarray(shown.convert("RGB")))
    return pictures


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("encodings", ["--data", "digits", "--epochs", "2"]),
        ("evidence", ["--steps", "20"]),
        ("khat", ["--data", "digits", "--epochs", "2", "--images", "60"]),
        ("posterior", ["--epochs", "1", "--steps", "20"]),
    ],
)
def test_every_picture_moves(name, args):
    cli(animate.Config, animate.main, [name, "--frames", "4", *args])
    pictures = frames_of(f"{name}.gif")
    assert 3 <= len(pictures) <= 4
    for before, after in itertools.pairwise(pictures):
        assert (before != after).any()
    assert all((shown[:5, :5] == 255).all() for shown in pictures)  # white, not nearly white
    inks = np.unique(pictures[-1].reshape(-1, 3), axis=0)
    assert (np.ptp(inks, axis=1) > 60).sum() >= 2  # and not all grey


def test_no_diagonal_guide_passes_its_bound_and_a_full_one_reaches_the_evidence():
    rows = load("digits")[0].rows(40)
    x = rows.pixels.reshape(40, -1).double() / 16
    model = rotate_to_largest_gap(PPCA.maximum_likelihood(x, 3)).requires_grad_(False)
    floor = diagonal_gap(model).item()
    config = animate.Config(name="evidence", frames=6, steps=200)
    for name in COMPARED:
        steps, gaps, _ = zip(*_trained(config, model, rows, name), strict=True)
        assert steps == (0, 1, 4, 14, 53, 200)
        least = 0 if "full" in name else floor
        assert all(gap >= least - 1e-9 for gap in gaps), name
        assert gaps[-1] == pytest.approx(least, abs=0.02), name


def test_the_kl_on_the_grid_is_the_closed_form():
    z = plane(torch.zeros(1, dtype=torch.float64))
    p = Normal(torch.tensor([0.3, -0.5]).double(), torch.tensor([0.4, 0.7]).double())
    q = Normal(torch.tensor([0.1, 0.2]).double(), torch.tensor([0.5, 0.3]).double())
    found = kl(q.log_prob(z).sum(-1), p.log_prob(z).sum(-1))
    assert found == pytest.approx(kl_divergence(q, p).sum().item(), abs=1e-9)


def test_the_losses_in_the_picture_of_the_readme():
    text = Path(__file__).parents[3].joinpath("README.md").read_text()
    alt = re.search(r"!\[(.*?)\]\(docs/four_guides.png\)", text)
    assert alt
    named = re.findall(r"(\w+)(?: loses)? (\d+\.\d\d)", alt[1].replace(" nats", ""))
    shown = {name: float(loss) for name, loss in named}
    assert set(shown) == set(FITTED)
    config = animate.Config(name="posterior", frames=2)
    train, test = load("digits")
    torch.manual_seed(0)
    model, train, digit, target = setting(config, train, test)
    assert target.softmax(0).max() < 0.1  # the grid resolves the posterior
    losses = {n: kl(fitted(config, model, n, train, digit)[-1], target) for n in FITTED}
    assert 0 <= losses["full_rank"] < losses["mean_field"] < losses["prior"]
    assert losses["mean_field"] < losses["amortized"] < losses["prior"]
    assert losses == pytest.approx(shown, rel=0.1, abs=0.02)


def test_the_letters_of_the_readmes_picture_can_be_read_on_a_phone():
    normal = -plane(torch.zeros(1)).square().sum(-1)
    digit = load("digits")[1].select(slice(0, 1))
    figure = _figure(dict.fromkeys(FITTED, normal), normal, digit)
    picture(figure)  # writes the numbers at the ticks
    shown = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    width = 72 * figure.get_figwidth()  # in points, as sizes of fonts are
    assert min(text.get_fontsize() for text in shown) * 390 / width > 6.5


def test_the_last_frame_as_a_still():
    args = ["--frames", "3", "--steps", "20"]
    cli(animate.Config, animate.main, ["evidence", *args])
    cli(animate.Config, animate.main, ["evidence", *args, "--out", "a/b.png"])
    with Image.open("a/b.png") as still:
        shown = np.asarray(still.convert("RGB")).astype(int)
    assert np.abs(shown - frames_of("evidence.gif")[-1]).mean() < 2  # but for the GIF's palette


def test_frames_lie_ever_farther_apart_and_end_where_training_ends():
    assert taken(1000, 4) == [1, 10, 100, 1000]
    assert taken(3, 40) == [1, 2, 3]
    assert taken(7, 1) == [1, 7]


def test_stopping_for_frames_changes_nothing():
    data = load("digits", rows=100)[0]
    ends = []
    for frames in (2, 6):
        torch.manual_seed(0)
        model = PPCA(64, 2)
        svi = SVI(model, Amortized(model, hidden_dims=(5,)))
        steps = list(training(svi, data.like(model), 3, 40, frames, seed=0))
        assert steps[0] == 0
        assert steps[-1] == 9
        assert steps == sorted(set(steps))
        ends.append(model.W.detach().clone())
    assert torch.equal(*ends)


def test_a_gif_keeps_its_pictures_and_times():
    colours = ["#ffffff", "#d62728", DIGITS[3]]
    pictures = [Image.new("RGB", (20, 10), colour) for colour in colours]
    pictures.append(Image.fromarray(np.concatenate([np.asarray(shown) for shown in pictures])))
    pictures = [shown.resize((20, 30)) for shown in pictures]
    save_gif(pictures, Path("a.gif"), 0.1, 1.0)
    for shown, kept in zip(pictures, frames_of("a.gif"), strict=True):
        assert np.abs(np.asarray(shown).astype(int) - kept).max() <= 2
    with Image.open("a.gif") as kept:
        assert kept.info["loop"] == 0
        assert kept.info["duration"] == 100
        kept.seek(3)
        assert kept.info["duration"] == 1000


def test_pictures_that_cannot_be_made(capsys):
    refused(capsys, animate, ["evidence", "--frames", "1"], "--frames must be at least 2, got 1")
    refused(capsys, animate, ["evidence", "--seconds", "0"], "between 0.02 and 60")
    refused(capsys, animate, ["evidence", "--out", "a.mp4"], "must end in .gif or .png")
    refused(capsys, animate, ["nothing"], "nothing")
    Path("evidence.gif").write_text("mine")
    refused(capsys, animate, ["evidence"], "exists already")
