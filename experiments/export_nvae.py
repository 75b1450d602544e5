"""Can the published code use these weights? A run of the NVAE as a checkpoint of its format.

python -m experiments.export_nvae runs/nvae-mnist --file checkpoint.pt
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro

from experiments.inference.svi import Pair
from experiments.runs.checkpoint import load_weights
from experiments.runs.cli import cli
from experiments.runs.errors import UsageError
from experiments.runs.files import read_json
from experiments.runs.reference_checkpoint import write_checkpoint
from guides import GUIDES
from ppl_models.nvae import NVAE
from ppl_models.nvae.reference import options_of_args


@dataclass(frozen=True)
class Config:
    run: tyro.conf.Positional[Path]
    """Directory of an imported run."""
    file: Path = Path("checkpoint.pt")
    """The file to write."""


def main(config: Config) -> dict[str, Any]:
    saved = read_json(config.run / "config.json")
    if not isinstance(saved, dict) or saved.get("pair", {}).get("guide") != "top_down":
        raise UsageError(f"{config.run} is no NVAE under top_down.")
    if config.file.exists():
        raise UsageError(f"--file {config.file} exists already.")
    source = config.run / "checkpoint/reference.pt"
    if not source.exists():
        raise UsageError(f"{config.run} was not imported: its published arguments are not known.")
    rest = torch.load(source, weights_only=True)
    model_options, guide_options = options_of_args(rest["args"])
    model = NVAE(**model_options)
    pair = Pair(model, GUIDES["top_down"](model, **guide_options))
    load_weights(config.run, pair.to(dtype=getattr(torch, saved["options"]["dtype"])))
    write_checkpoint(config.file, pair, rest)
    print(f"written: {config.file}")
    return {"file": str(config.file)}


if __name__ == "__main__":
    cli(Config, main)
