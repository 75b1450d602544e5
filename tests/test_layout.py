"""Files and folders stay small, and nothing heavy is loaded for a help text."""

import ast
import collections
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("ppl_models", "guides", "experiments")
LIBRARIES = {"torch", "pyro", "numpy"}
SOURCES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_models_and_guides_use_few_libraries():
    """`import-linter` looks at the direction of imports (`make lint`)."""
    found = {
        str(path.relative_to(ROOT)): names
        for path in SOURCES
        if path.relative_to(ROOT).parts[0] != "experiments"
        and (names := imported(path) - set(sys.stdlib_module_names) - set(PACKAGES) - LIBRARIES)
    }
    assert not found


def test_files_functions_and_folders_are_short():
    long = []
    for path in SOURCES:
        text, name = path.read_text(encoding="utf-8"), path.relative_to(ROOT)
        if len(text.splitlines()) > 250:
            long.append(f"{name}: {len(text.splitlines())} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                documented = ast.get_docstring(node) is not None
                body = node.body[1] if documented and len(node.body) > 1 else node.body[0]
                if (node.end_lineno or 0) - body.lineno >= 40:
                    long.append(f"{name}: {node.name}")
    folders = collections.Counter(path.parent for path in SOURCES if path.name != "__init__.py")
    long += [
        f"{folder.relative_to(ROOT)}: {count} modules"
        for folder, count in folders.items()
        if count > 15
    ]
    assert not long


def test_parameters_live_in_modules():
    found = []
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        words = ["pyro.param(", "PyroModule", "clear_param_store"]
        if path.name not in ("program.py", "pyro_peer.py"):  # the peer is Pyro's own example
            words.append("pyro.module(")
        found += [f"{path.relative_to(ROOT)}: {word}" for word in words if word in text]
    assert not found


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


STARTED = """
import sys
import experiments.ppca
print("a command:", *{rare} & set(sys.modules))
from experiments.data import load
load("digits")
print("digits:", *{{"sklearn"}} & set(sys.modules))
import torch
from experiments.inference.svi import SVI
from guides import GUIDES
from ppl_models import PPCA, Batch
for name in ("amortized", "mean_field"):
    model = PPCA(7, 2)
    svi = SVI(model, GUIDES[name](model).for_data(5))
    svi.step(Batch.of(torch.randn(5, 7)))
    svi.load_state_dict(svi.state_dict())
    svi.step(Batch.of(torch.randn(5, 7)))
print("a step:", *{{"torch._dynamo"}} & set(sys.modules))
"""


def test_a_command_the_digits_and_a_step_load_what_they_need():
    """A compiler would take a fourth of the time of a short run, scikit-learn a second."""
    rare = {
        "arviz",
        "h5py",
        "joblib",
        "nbformat",
        "pandas",
        "scipy",
        "sympy",
        "tensorboard",
        "torch._dynamo",
        "torchvision",
    }
    code = STARTED.format(rare=rare)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.splitlines() == ["a command:", "digits:", "a step:"]


def test_every_listed_command_is_a_file_with_config_and_main():
    import importlib

    from experiments.options.commands import COMMANDS, module_of

    for name in COMMANDS:
        module = importlib.import_module(module_of(name))
        assert module.Config.__dataclass_params__.frozen
        assert callable(module.main)
        assert "python -m experiments" in module.__doc__
