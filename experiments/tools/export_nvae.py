"""Can the published code use these weights? Saves an NVAE run as one of its checkpoints.

An imported run keeps its arguments; for other runs they are derived from the options. If FILE ends
in .safetensors, it contains the weights in half precision and the options of the run, the format
that `nvae --pretrained` reads.

    python -m experiments export-nvae runs/nvae-mnist --file checkpoint.pt
    python -m experiments export-nvae runs/nvae-... --file ~/nvae/checkpoint.pt
    python -m experiments export-nvae runs/nvae-... --file mnist-small.safetensors
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro

from experiments.errors import UsageError
from experiments.inference.svi import Pair
from experiments.runs.checkpoint import latest, load_weights, shapes_of, unpacked, verified
from experiments.runs.cli import cli
from experiments.training.nvae.pretrained import epochs_of, pack
from experiments.training.nvae.reference_checkpoint import CELLS, published_name, write_checkpoint
from experiments.training.saved_run import buildable, read_config
from guides import GUIDES
from ppl_models.nvae import NVAE
from ppl_models.nvae.reference_options import args_of_options


@dataclass(frozen=True)
class Config:
    run: tyro.conf.Positional[Path]
    """Directory of an NVAE run with the guide top_down."""
    file: Path = Path("checkpoint.pt")
    """File to write."""


def main(config: Config) -> dict[str, Any]:
    saved = read_config(config.run)
    if (saved["pair"]["model"], saved["pair"]["guide"]) != ("nvae", "top_down"):
        raise UsageError(f"{config.run} is not an NVAE run with the guide top_down.")
    if config.file.exists():
        raise UsageError(f"--file {config.file} exists already.")
    packed = config.file.suffix == ".safetensors"
    with buildable(config.run):
        model_options, guide_options = options_of_run(config.run, saved)
        model = NVAE(**model_options)
        built = Pair(model, GUIDES["top_down"](model, **guide_options))
        built.to(dtype=getattr(torch, saved["options"]["dtype"]))
        facts = {} if packed else published_facts(config.run, saved)
    load_weights(latest(config.run), built)
    try:
        if packed:
            pack(config.run, built, config.file)
        else:
            write_checkpoint(config.file, built, facts)
    except OSError as error:
        raise UsageError(f"--file {config.file} cannot be written ({error.strerror}).") from error
    print(f"written: {config.file}")
    return {"file": str(config.file)}


def options_of_run(run: Path, saved: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of ``NVAE`` and of ``TopDown``; the image's shape is read off the weights."""
    model, guide = saved["pair"]["model_options"], saved["pair"]["guide_options"]
    top, stem = shapes_of(run, "model.top", "guide.tower.stem.weight")
    halvings = model["blocks"] + len(model["groups"]) - 1
    shape = (stem[1], top[1] << halvings, top[2] << halvings)
    return {**model, "data_shape": shape, "bits": saved["options"].get("bits", 8)}, guide


def published_facts(run: Path, saved: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint holds besides the weights."""
    source = latest(run) / "reference.pt"
    if source.exists():
        (content,) = verified(source.parent, source.name)
        return unpacked(content, source)
    model, guide = options_of_run(run, saved)
    options = saved["options"]
    try:
        args = args_of_options(model, guide)
        args["dataset"] = published_name(options["data"], model["data_shape"])
    except ValueError as error:
        raise UsageError(str(error)) from error
    args |= {
        "epochs": options["epochs"],
        "batch_size": options["batch_size"],
        "learning_rate": options["lr"],
        "seed": options["seed"],
    }
    return {"epoch": epochs_of(run), "args": args, "arch_instance": CELLS}


if __name__ == "__main__":
    cli(Config, main)
