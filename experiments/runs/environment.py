"""The environment of a run: device and versions."""

import json
import os
import platform
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from experiments.errors import UsageError
from experiments.inference.parallel import world_size


def pick_device(name: str) -> torch.device:
    """The requested device; ``auto`` is a GPU if there is one, one per process if several."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and world_size() > 1:
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        if torch.device(name).type not in ("cpu", "cuda", "mps", "xpu"):
            raise RuntimeError("it holds no numbers")
        device = torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].split(". ")[0][:120]
        raise UsageError(f"--device {name} cannot be used here ({reason}).") from error
    if world_size() > 1 and device.type not in ("cpu", "cuda"):
        raise UsageError(f"several processes train on cpu or cuda, not on {device.type}.")
    if world_size() > 1 and device.type == "cuda":
        torch.cuda.set_device(device)
    return device


@contextmanager
def determinism(wanted: bool) -> Iterator[None]:
    """Inside, PyTorch uses only deterministic algorithms, if requested."""
    if not wanted:  # even an unchanged setting imports the compiler
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    tried = torch.backends.cudnn.benchmark
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # required by cuBLAS
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
        torch.backends.cudnn.benchmark = tried


def peak_memory(device: torch.device) -> dict[str, float]:
    """Peak memory of the process, and of its tensors on a GPU if there is one [GiB]."""
    unit = 1 if sys.platform == "darwin" else 1024  # Linux counts in KiB, macOS in bytes
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
    if device.type != "cuda":
        return {"peak_gib": peak}
    return {"peak_gib": peak, "peak_gpu_gib": torch.cuda.max_memory_allocated(device) / 2**30}


def plain(options: Any) -> Any:
    """Options as JSON values."""
    return json.loads(json.dumps(options, default=str))


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that affect results; ``None`` if not installed."""
    packages = ("ppl-models", "torch", "pyro-ppl", "numpy")
    return {"python": platform.python_version(), **{name: version_of(name) for name in packages}}


def version_of(package: str) -> str | None:
    """The version of an installed package; ``None`` if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
