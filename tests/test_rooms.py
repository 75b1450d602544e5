"""The rooms import in one direction, stay small, and nothing heavy is loaded for a help text."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "ppl_models": {"ppl_models"},
    "guides": {"ppl_models", "guides"},
    "experiments": {"ppl_models", "guides", "experiments"},
}
LIBRARIES = {"torch", "pyro", "numpy"}
SOURCES = [path for room in MAY_IMPORT for path in sorted((ROOT / room).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_from_rooms_above(path):
    room = path.relative_to(ROOT).parts[0]
    names = imported(path)
    assert names & set(MAY_IMPORT) <= MAY_IMPORT[room]
    if room != "experiments":
        assert names - set(sys.stdlib_module_names) - set(MAY_IMPORT) <= LIBRARIES


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 250
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            documented = ast.get_docstring(node) is not None
            body = node.body[1] if documented and len(node.body) > 1 else node.body[0]
            assert (node.end_lineno or 0) - body.lineno < 40, node.name


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_parameters_live_in_modules(path):
    text = path.read_text()
    for word in ("pyro.param(", "PyroModule", "clear_param_store"):
        assert word not in text
    if path.name not in ("program.py", "pyro_peer.py"):  # the peer speaks as Pyro's example does
        assert "pyro.module(" not in text


def test_help_imports_no_torch():
    code = (
        "import sys, runpy; sys.argv = ['experiments', '--help']\n"
        "runpy.run_module('experiments', run_name='__main__')\n"
        "assert not {'torch', 'pyro', 'numpy', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "ppca" in done.stdout


def test_a_command_imports_what_it_needs():
    rare = {"arviz", "h5py", "joblib", "nbformat", "pandas", "scipy", "sympy", "tensorboard",
            "torch._dynamo", "torchvision"}  # fmt: skip
    code = f"import sys, experiments.ppca; print(*{rare} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.split() == []


def test_every_listed_command_is_a_file_with_config_and_main():
    import importlib

    from experiments.__main__ import COMMANDS

    for name in COMMANDS:
        module = importlib.import_module(f"experiments.{name.replace('-', '_')}")
        assert module.Config.__dataclass_params__.frozen
        assert callable(module.main)
        assert "python -m experiments" in module.__doc__
