"""A finished run read back: its pair rebuilt, its weights and data loaded."""

import inspect
from pathlib import Path
from typing import Any, NamedTuple

import pyro
import torch
from torch import nn
from tqdm import tqdm

from experiments.data import Data
from experiments.data_sets import load_as
from experiments.inference.svi import Pair
from experiments.runs.checkpoint import latest, load_weights
from experiments.runs.cli import import_model
from experiments.runs.errors import UsageError
from experiments.runs.files import FORMAT, read_json
from guides import GUIDES, Guide

__all__ = ["SavedRun", "build_model", "open_run"]


class SavedRun(NamedTuple):
    """A finished run, read back."""

    directory: Path
    config: dict[str, Any]
    model: nn.Module
    guide: Guide
    train: Data
    test: Data

    @property
    def metrics(self) -> dict[str, Any]:
        """Its final figures; empty while it is not finished."""
        path = self.directory / "metrics.json"
        return read_json(path) if path.exists() else {}


def build_model(name: str, data: Data, options: dict[str, Any]) -> nn.Module:
    """A model by name, its data dimensions taken from the data."""
    model_class = import_model(name)
    shape: dict[str, Any] = {}
    accepted = inspect.signature(model_class).parameters
    if "data_dim" in accepted:
        shape["data_dim"] = data.data_dim
    if "data_shape" in accepted:
        shape["data_shape"] = tuple(data.image_shape)
    if "bits" in accepted:
        shape["bits"] = (data.levels + 1).bit_length() - 1
    return model_class(**shape, **options)


def open_run(directory: Path, data_root: Path | None, device: torch.device) -> SavedRun:
    """Rebuild the pair of a run and load its weights and data.

    Raises:
        UsageError: If the directory is no run, of another format, has no guide or no checkpoint.
    """
    config = read_json(directory / "config.json")
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        found = config.get("format") if isinstance(config, dict) else None
        raise UsageError(f"{directory} is a run of format {found}; this version reads {FORMAT}.")
    if "pair" not in config:
        raise UsageError(f"{directory} ({config.get('command')}) holds no model and guide.")
    if not (directory / "metrics.json").exists():
        tqdm.write(f"warning: {directory} was not finished; these are the weights it had reached.")
    try:
        return _rebuild(directory, config, data_root, device)
    except (KeyError, TypeError) as error:
        raise UsageError(f"{directory}/config.json is not that of a run ({error!r}).") from error


def _rebuild(
    directory: Path, config: dict[str, Any], data_root: Path | None, device: torch.device
) -> SavedRun:
    options, recipe = config["options"], config["pair"]
    train, test = load_as(options, data_root or _path(options["data_root"]), options["rows"])
    with torch.random.fork_rng(devices=[]), pyro.poutine.block():
        model = build_model(recipe["model"], train, recipe["model_options"])
        model.to(device=device, dtype=getattr(torch, options["dtype"]))
        guide = GUIDES[recipe["guide"]](model, **recipe["guide_options"]).for_data(len(train))
    pair = Pair(model, guide).to(memory_format=torch.channels_last)  # for convolutions
    load_weights(latest(directory), pair)
    model.eval(), guide.eval()
    return SavedRun(directory, config, model, guide, train.like(model), test.like(model))


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
