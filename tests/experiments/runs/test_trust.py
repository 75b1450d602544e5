"""A saved run that names code: nothing is imported that the user has not named."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import compare, train
from experiments.options.commands import module_of
from experiments.runs.cli import cli
from experiments.tools import evaluate, explore, refit
from tests.shared.commands import refused, run
from tests.shared.explorer_runs import spread_ppca

ROOT = Path(__file__).parents[3]
PAYLOAD = """
import os
os.mkdir("executed")
from guides.exact import Exact
from ppl_models import PPCA

class Mine(PPCA):
    pass

class Guide(Exact):
    pass
"""
OPENING = [
    ("evaluate", "RUN"),
    ("sample", "RUN"),
    ("reconstruct", "RUN"),
    ("gaps", "RUN"),
    ("calibrate", "RUN"),
    ("predictive", "RUN"),
    ("gradients", "RUN"),
    ("explore", "RUN"),
    ("refit", "RUN", "--guide", "exact"),
    ("explore", "good", "--with", "RUN"),
    ("compare", "--of", "RUN"),
]
"""Commands that read a saved run's model."""


pytestmark = pytest.mark.usefixtures("in_a_folder", "without_pictures")


def saved(path: str, name: str, kind: str = "model") -> Path:
    """A run of PPCA whose ``config.json`` says that its model, or guide, is another."""
    spread_ppca(Path(path))
    file = Path(path, "config.json")
    config = json.loads(file.read_text(encoding="utf-8"))
    config["pair"][kind] = name
    file.write_text(json.dumps(config), encoding="utf-8")
    return Path(path)


def test_no_command_imports_what_only_a_run_names(capsys):
    Path("stranger.py").write_text(PAYLOAD, encoding="utf-8")
    spread_ppca(Path("good"))
    saved("RUN", "stranger:Mine")
    for name, *args in OPENING:
        module = importlib.import_module(module_of(name))
        refused(capsys, module, args, "add --model stranger:Mine")
        if args == ["RUN"]:
            refused(capsys, module, [*args, "--model", "stranger:X"], "add --model stranger:Mine")
    saved("OTHER", "stranger:Mine", "guide")
    for name, *args in OPENING:
        words = [word.replace("RUN", "OTHER") for word in args]
        refused(capsys, importlib.import_module(module_of(name)), words, "add --trust")
    for command in (evaluate, explore):
        refused(capsys, command, ["OTHER", "--guide", "stranger:X"], "add --trust")
        refused(capsys, command, ["good", "--guide", "stranger:X"], "guide of good is exact, not")
    assert "stranger" not in sys.modules


def test_a_model_that_is_named_is_imported(capsys):
    Path("acquaintance.py").write_text(PAYLOAD, encoding="utf-8")
    saved("a", "acquaintance:Mine")
    own = ["--model", "acquaintance:Mine"]
    assert run(evaluate, "a", "--particles", "2", *own, "--out", "e")["model"] == own[1]
    fitted = run(refit, "a", "--guide", "exact", *own, "--out", "r")
    assert fitted["test"]["log_evidence"] is not None
    cli(explore.Config, explore.main, ["a", *own, "--images", "2", "--points", "9"])
    run(compare, "--of", "a", *own, "--guides", "exact", "--rows", "20", "--out", "c")
    run(evaluate, "r", "--particles", "2", *own, "--out", "f")
    refused(capsys, evaluate, ["r"], "add --model acquaintance:Mine")
    spread_ppca(Path("ours"))
    refused(capsys, evaluate, ["ours", *own], "the model of ours is ppca, not acquaintance:Mine")
    saved("g", "acquaintance:Guide", "guide")
    for number, words in enumerate((["--trust"], ["--guide", "acquaintance:Guide"])):
        run(evaluate, "g", "--particles", "2", *words, "--out", f"g{number}")
    run(refit, "g", "--trust", "--guide", "exact", "--out", "h")


@pytest.mark.parametrize("kind", ["namespace", "package", "builtin", "link", "path", "inside"])
def test_nothing_in_a_run_directory_is_imported(kind, capsys, monkeypatch):
    module = "sys" if kind == "builtin" else f"payload_{kind}"
    within = kind in ("namespace", "package", "builtin")
    name = f"runs.{kind}.{module}:Mine" if within else f"{module}:Mine"
    folder = saved(f"runs/{kind}", name)
    (folder / f"{module}.py").write_text(PAYLOAD, encoding="utf-8")
    if kind == "package":
        (folder / "__init__.py").write_text("import os; os.mkdir('executed')", encoding="utf-8")
    if kind == "link":
        Path(f"{module}.py").symlink_to(folder / f"{module}.py")
    if kind == "path":
        monkeypatch.syspath_prepend(str(folder.absolute()))
    if kind == "inside":
        monkeypatch.chdir(folder)
        folder = Path()
    own = ["--model", name, "--out", "e"]
    refused(capsys, evaluate, [folder, *own], "lies in the run directory")
    refused(capsys, train, ["--data", "digits", *own], "lies in the run directory")
    assert not Path("executed").exists()


def test_other_names_in_a_run_lead_nowhere(capsys):
    folder = saved("a", "ppca")
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    for part, name, value in (
        ("options", "dtype", "manual_seed"),
        ("pair", "guide", "os:system"),
        ("pair", "model", "os"),
        ("pair", "model", "..:X"),
        ("pair", "model", ":"),
    ):
        changed = {**config, part: {**config[part], name: value}}
        file.write_text(json.dumps(changed), encoding="utf-8")
        refused(capsys, evaluate, ["a", "--out", "e"])
        if ":" in value:
            refused(capsys, evaluate, ["a", "--model", value, "--out", "e"])


def test_the_working_directory_holds_no_libraries():
    for name in ("torch", "json", "pyro", "guides", "difflib"):
        Path(f"{name}.py").write_text("raise SystemExit('shadowed')", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for words, said in (
        (["experiments.ppca", "--epochs", "0"], "error: --epochs must be at least 1, got 0.\n"),
        (["experiments", "nothing"], "error: command 'nothing' is unknown; "),  # loads difflib
    ):
        done = subprocess.run(
            [sys.executable, "-m", *words],
            env=environment,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2
        assert done.stderr.startswith(said)
        assert done.stderr.count("\n") == 1
