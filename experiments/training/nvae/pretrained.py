"""Weights that come with the package: one file each, in half precision, saying what they are."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from experiments.errors import UsageError
from experiments.options.presets import PRESETS
from experiments.runs.files import read_json, write
from ppl_models.names import unknown

HOME = Path(__file__).parents[2] / "pretrained"


def available() -> list[str]:
    """The presets that have weights."""
    return sorted(path.stem for path in HOME.glob("*.safetensors"))


def check_available(name: str, preset: str) -> None:
    """Refuse an unknown name of weights, and a ``--preset`` that differs from it."""
    if name not in available():
        raise UsageError(unknown("trained preset", name, available()))
    if preset != name and name in PRESETS:
        raise UsageError(f"--pretrained {name} brings its preset: leave out --preset {preset}.")


def pack(run: Path, module: nn.Module, file: Path) -> None:
    """Write a run's weights in half precision, with the options it was trained with."""
    config = read_json(run / "config.json")
    tensors = {}
    for name, tensor in module.state_dict().items():
        half = (tensor.half() if tensor.is_floating_point() else tensor).cpu().contiguous()
        if not torch.equal(half.isfinite(), tensor.isfinite().cpu()):
            raise UsageError(f"{name} of {run} overflows half precision: take a --file of .pt.")
        tensors[name] = half
    about = {name: config.get(name) for name in ("pair", "versions")}
    places = ("out", "data_root")
    about["options"] = {k: v for k, v in config["options"].items() if k not in places}
    about["epochs"] = epochs_of(run)
    metadata = {name: json.dumps(value) for name, value in about.items()}
    write(file, lambda path: save_file(tensors, path, metadata=metadata), parents=True)


def epochs_of(run: Path) -> Any:
    """The epochs that a run was trained for, by its log; of other weights, by its figures."""
    log, figures = run / "metrics.jsonl", run / "metrics.json"
    done = log.read_bytes().count(b"\n") if log.exists() else 0
    return done or (read_json(figures).get("epochs") if figures.exists() else 0)


def load_pretrained(name: str, module: nn.Module, recipe: dict[str, Any]) -> dict[str, Any]:
    """Load weights by name into a pair; return what they were trained with."""
    check_available(name, name)
    with safe_open(HOME / f"{name}.safetensors", "pt") as file:
        about = {key: json.loads(value) for key, value in file.metadata().items()}
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    if json.loads(json.dumps(recipe)) != about["pair"]:
        raise UsageError(
            f"--pretrained {name} takes the model and guide as they were trained: leave their "
            "options at the preset's."
        )
    other = [key for key, own in module.state_dict().items() if tensors[key].shape != own.shape]
    if other:
        raise UsageError(
            f"--pretrained {name} is for images of other sides: the shape of {other[0]} differs. "
            "Leave out --data and --pad, or train."
        )
    module.load_state_dict(tensors)  # half precision becomes the module's own
    return about
