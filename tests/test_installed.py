"""A Python that is too old or lacks the packages gets one line that says what to do."""

import subprocess
import sys
from pathlib import Path

import pytest

from experiments.options.process import installed

ROOT = Path(__file__).parents[1]


def bare(*words: str) -> subprocess.CompletedProcess:
    """A command under this Python without its packages."""
    command = [sys.executable, "-S", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.mark.parametrize(
    "words",
    [
        ("-m", "experiments", "ppca"),
        ("-m", "experiments", "ppca", "--help"),
        ("-m", "experiments.vae"),
        ("-mexperiments.vae",),
        ("-m", "experiments.tools.import_nvae", "x.pt"),
    ],
)
def test_a_python_without_the_packages_says_how_to_get_them(words):
    done = bare(*words)
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: the package torch is not installed for ")
    assert "source .venv/bin/activate" in line
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize(("words", "code"), [((), 0), (("--help",), 0), (("ppcaa",), 2)])
def test_the_list_of_commands_needs_no_package(words, code):
    done = bare("-m", "experiments", *words)
    assert done.returncode == code
    assert "bayesian-ppca" in (done.stderr if code else done.stdout)
    assert "Traceback" not in done.stderr


def test_the_package_itself_can_be_imported_without_the_others():
    assert bare("-c", "import experiments").returncode == 0


@pytest.mark.parametrize("made", [False, True])
def test_an_environment_is_activated_where_there_is_one(made, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        installed,
        "__file__",
        str(tmp_path / "experiments" / "options" / "process" / "installed.py"),
    )
    monkeypatch.chdir(tmp_path)
    if made:
        (tmp_path / ".venv/bin").mkdir(parents=True)
        (tmp_path / ".venv/bin/activate").touch()
    with pytest.raises(SystemExit) as end:
        installed.not_installed("tyro")
    line = capsys.readouterr().err
    assert end.value.code == 2
    assert ("pip install" in line) is not made
    assert line.endswith("source .venv/bin/activate\n")


def test_a_python_that_is_too_old_is_told_so(monkeypatch, capsys):
    monkeypatch.setattr(installed, "PYTHON", (99, 0))
    with pytest.raises(SystemExit):
        installed.check_installed()
    assert capsys.readouterr().err.startswith("error: Python 99.0 or later is needed, this is ")
