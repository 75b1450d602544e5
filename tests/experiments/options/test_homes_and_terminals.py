"""Terminals, homes, downloads, disks without locks, and the names of a sweep's runs."""

import errno
import io
import os
import struct
import sys
from pathlib import Path

import pytest

from experiments import pca, ppca
from experiments.data import load
from experiments.data.downloads import fetch
from experiments.errors import UsageError, in_words
from experiments.options.parsing import parse
from experiments.runs.cli import cli
from experiments.runs.lock import Lock
from experiments.sweeps.grid import name_of, read_grid
from experiments.sweeps.plan import plan

pytestmark = pytest.mark.usefixtures("in_a_folder")


class Terminal(io.StringIO):
    """What stdout is at a prompt."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--rows", "many"], "'many' is no INT"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_an_error_on_a_terminal_is_plain_text(args, words, monkeypatch):
    """The parser colours its message where stdout is a terminal, as it is for every user."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys, "stdout", Terminal())
    with pytest.raises(UsageError) as caught:
        parse(ppca.Config, ppca.main, args)
    line = in_words(caught.value)
    assert "x1b" not in line
    assert "[0m" not in line
    assert words in line
    assert not line.startswith("Parsing error")


def test_a_tilde_is_the_home_and_no_folder(monkeypatch):
    """A shell leaves --out=~/run as it is: a folder called ~ is one `rm -r` from disaster."""
    monkeypatch.setenv("HOME", str(Path("home").absolute()))
    Path("home").mkdir()
    cli(pca.Config, pca.main, ["--data", "digits", "--rows", "20", "--out=~/run"])
    assert Path("home/run/metrics.json").exists()
    assert not Path("~").exists()


def idx(path: Path, *shape: int) -> None:
    size = 1
    for side in shape:
        size *= side
    header = bytes((0, 0, 8, len(shape))) + struct.pack(f">{len(shape)}I", *shape)
    path.write_bytes(header + bytes(size))


def test_a_tilde_in_the_environment(monkeypatch):
    import torchvision.datasets

    def offline(*_, **__):
        raise RuntimeError("offline")

    monkeypatch.setattr(torchvision.datasets, "KMNIST", offline)
    monkeypatch.setenv("HOME", str(Path("home").absolute()))
    monkeypatch.setenv("PPL_DATA", "~/data")
    raw = Path("home/data/KMNIST/raw")
    raw.mkdir(parents=True)
    for prefix in ("train", "t10k"):
        idx(raw / f"{prefix}-images-idx3-ubyte", 4, 2, 2)
        idx(raw / f"{prefix}-labels-idx1-ubyte", 4)
    assert [len(part) for part in load("kmnist")] == [4, 4]


def test_a_failed_download_leaves_what_others_wrote_meanwhile(monkeypatch, tmp_path):
    """--data-root . : a run that trains beside a failing download loses its checkpoints."""
    import torchvision.datasets

    def half(root, **options):
        for name in ("MNIST/raw/train.gz", "runs/other/checkpoint/00002/weights.safetensors"):
            path = Path(root, name)
            path.parent.mkdir(parents=True)
            path.write_text("half" if "MNIST" in name else "of another process")
        raise RuntimeError("connection reset")

    monkeypatch.setattr(torchvision.datasets, "MNIST", half)
    with pytest.raises(UsageError, match="connection reset"):
        fetch("MNIST", tmp_path)
    assert not (tmp_path / "MNIST").exists()
    assert (tmp_path / "runs/other/checkpoint/00002/weights.safetensors").exists()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_without_locks_is_not_another_process(number, monkeypatch, tmp_path):
    """Lustre without flock, and some network mounts."""

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("experiments.runs.lock.fcntl.flock", refuse)
    out = tmp_path / "run"
    out.mkdir()
    with pytest.raises(UsageError, match="cannot be locked"), Lock(out):
        pass
    assert not list(out.iterdir()), "a lock was left behind"


@pytest.mark.parametrize(
    ("name", "values"), [("beta", (".5", "5")), ("run", ("../a", "a")), ("value", ("-1", "1"))]
)
def test_points_that_differ_have_names_that_do(name, values):
    one, other = (name_of({name: value}) for value in values)
    assert one != other


def test_a_grid_with_numbers_that_begin_with_a_point():
    found = plan("vae", read_grid(["beta=.5,5"], []), Path("s").absolute())
    assert [run.options["beta"] for run in found] == [0.5, 5.0]
