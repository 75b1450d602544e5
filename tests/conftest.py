"""Laws are tested in float64, on one thread, from a seed; real MNIST where it lies at hand."""

import builtins
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Torch is imported by fixtures: the process that hands out tests to workers has no use for it.

os.environ.setdefault("TORCH_WARM_POOL", "0")  # no process for Triton's kernels, which no CPU has

HOMES = (os.environ.get("PPL_DATA"), "data", "../shared/data")
MNIST = next((Path(h).absolute() for h in HOMES if h and (Path(h) / "MNIST/raw").is_dir()), None)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _float64_and_seed() -> Iterator[None]:
    import pyro
    import torch

    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    pyro.enable_validation(True)
    yield
    assert len(pyro.get_param_store()) == 0, "a test left parameters in Pyro's global store"
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    if MNIST is None:
        pytest.skip("real MNIST is not here; set PPL_DATA to the folder that holds MNIST/raw")
    return MNIST


@pytest.fixture
def in_a_folder(monkeypatch, tmp_path):
    """What commands find: float32, and an empty working directory."""
    import torch

    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)
    # a module of a user's that is imported from there leaves no __pycache__
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


@pytest.fixture
def in_a_notebook(monkeypatch):
    """What the labs' cells find: digits, one epoch, float32 and ``display``."""
    import torch

    torch.set_default_dtype(torch.float32)
    monkeypatch.setenv("LAB_DATA", "digits")
    monkeypatch.setenv("LAB_EPOCHS", "1")
    monkeypatch.setattr(builtins, "display", print, raising=False)


@pytest.fixture
def without_pictures() -> Iterator[None]:
    """Runs whose pictures nobody looks at do not draw them."""
    from tests.shared.pictures import undrawn

    with undrawn():
        yield


@pytest.fixture
def as_traced(monkeypatch):
    """Graphs of steps run as they were traced: what tracing must get right, without a compiler."""
    from experiments.inference.compiled import gradients

    monkeypatch.setattr(gradients, "compiled", lambda graph, values: graph)
    monkeypatch.setattr(gradients, "can_compile", lambda: True)


@pytest.fixture
def ownguides(in_a_folder) -> Iterator[None]:
    """A user's module ``ownguides`` in the working directory."""
    shutil.copy(Path(__file__).parent / "shared/ownguides.py", "ownguides.py")
    yield
    sys.modules.pop("ownguides", None)
