"""Errors on a terminal, and a home that a shell has left as ~."""

import io
import sys
from pathlib import Path

import pytest

from experiments import pca, ppca
from experiments.errors import UsageError, in_words
from experiments.options.parsing import parse
from experiments.runs.cli import cli

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
        (["--epochs", "two"], "--epochs: 'two' is no whole number; --epochs INT Passes"),
        (["--lr", "fast"], "--lr: 'fast' is no number; --lr FLOAT Learning rate"),
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
