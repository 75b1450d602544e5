"""How fast is a training epoch? The same arithmetic, several ways, side by side.

lab-vae: the lab's VAE (784-400-2 and back, batch 500, Adam) three ways: a loop over a DataLoader
that fetches image by image, as the lab has it; the same loop on tensors in memory; and this
project's model, guide and SVI. Epochs alternate, so that a busy machine disturbs all three alike.

nvae-step: training steps of a preset of NVAE with its whole recipe, and beside them its own
convolutions one by one, forward and backward: what share of that rate does a step keep?

    python -m experiments.bench lab-vae
    python -m experiments.bench lab-vae --data digits --epochs 10
    python -m experiments.bench nvae-step --preset mnist-large --batch-size 32
"""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from torch import Tensor

from experiments.data import Data
from experiments.data_sets import load
from experiments.evaluation.handwritten import HandwrittenVAE, per_item_loader
from experiments.evaluation.nvae_speed import step_speed
from experiments.inference.checkpointing import checkpoint_levels
from experiments.inference.fit import fit
from experiments.inference.objectives import AnalyticKL
from experiments.inference.optim import constant
from experiments.inference.svi import SVI, Pair, adam
from experiments.runs.cli import cli
from experiments.runs.comparison_report import markdown_table
from experiments.runs.errors import UsageError
from experiments.runs.metrics import protocol
from experiments.runs.options import RunOptions
from experiments.runs.preset_table import preset_pair
from experiments.runs.presets import PRESETS
from experiments.runs.run import Run
from guides import GUIDES
from ppl_models import VAE


@dataclass(frozen=True)
class Config(RunOptions):
    name: tyro.conf.Positional[Literal["lab-vae", "nvae-step"]] = "lab-vae"
    """What is timed."""
    preset: str = "mnist-large"
    """Of nvae-step."""
    steps: int = 5
    """Timed steps of nvae-step, after one that is not timed."""
    checkpoint_levels: bool = False
    """Of nvae-step: compute the cells a second time instead of keeping what they computed."""
    data: Literal["mnist", "fashion_mnist", "kmnist", "digits"] = "mnist"
    """Data set of grey images."""
    data_root: Path | None = None
    """Where the files lie; by default $PPL_DATA, else ./data."""
    rows: int | None = None
    """The first so many images only."""
    epochs: int = 3
    """Timed epochs of each way, after one that is not timed."""
    batch_size: int | None = None
    """Rows per step; 500 for lab-vae, 32 for nvae-step by default."""


def main(config: Config) -> dict[str, Any]:
    return {"lab-vae": lab_vae, "nvae-step": nvae_step}[config.name](config)


def lab_vae(config: Config) -> dict[str, Any]:
    with Run("bench", config) as run:
        train, _ = load(config.data, config.data_root, rows=config.rows)
        train = train.to(run.device)
        run.save_config()
        ways = {
            "per-item DataLoader, hand-written": by_item(train, config),
            "tensors in memory, hand-written": in_memory(train, config),
            "ppl-models": by_svi(train, config),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for epoch in range(config.epochs + 1):
            for name, way in ways.items():
                began = time.perf_counter()
                next(way)
                if epoch:
                    seconds[name].append(time.perf_counter() - began)
        slowest = statistics.median(next(iter(seconds.values())))
        rows = [
            {"way": name, "seconds per epoch, median": statistics.median(times),
             "fastest": min(times), "slowest": max(times),
             "of the per-item loop": statistics.median(times) / slowest}
            for name, times in seconds.items()
        ]  # fmt: skip
        run.say(f"\n{markdown_table(rows)}\n{torch.get_num_threads()} threads on {run.device}")
        metrics = {
            "model": "vae", "guide": "amortized", "objective": "elbo_analytic_kl",
            "data": train.name, "seed": config.seed, "epochs": config.epochs,
            "parameters": HandwrittenVAE(train.data_dim).number_of_parameters, "seconds": {},
            "protocol": protocol(train, None, 1), "bench": rows,
            "threads": torch.get_num_threads(),
        }  # fmt: skip
        return run.finish(metrics, "Wall time of an epoch, the ways alternating.", {"Speed": rows})


def nvae_step(config: Config) -> dict[str, Any]:
    if config.preset not in PRESETS:
        raise UsageError(f"preset '{config.preset}' is unknown; there are {', '.join(PRESETS)}.")
    with Run("bench", config) as run:
        run.save_config()
        pair = preset_pair(config.preset).to(run.device)
        pair.to(memory_format=torch.channels_last)
        if config.checkpoint_levels:
            checkpoint_levels(pair)
        row = {"preset": config.preset, "checkpointed": config.checkpoint_levels,
               **step_speed(pair, config.batch_size or 32, config.steps)}  # fmt: skip
        run.say(f"\n{markdown_table([row])}\n{torch.get_num_threads()} threads on {run.device}")
        metrics = {
            "model": "nvae", "guide": "top_down", "objective": "elbo_analytic_kl",
            "data": "noise", "seed": config.seed, "epochs": 0,
            "parameters": pair.number_of_parameters, "seconds": {}, "protocol": None,
            "bench": [row], "threads": torch.get_num_threads(),
        }  # fmt: skip
        return run.finish(metrics, "Wall time of a training step.", {"Speed": [row]})


def handwritten_epochs(config: Config, train: Data, batches: Callable) -> Iterator[None]:
    """The lab's loop: loss, backward, Adam; one epoch for every value asked for."""
    torch.manual_seed(config.seed)
    dim, device = train.data_dim, train.pixels.device
    vae = HandwrittenVAE(dim).to(device)
    optimizer = torch.optim.Adam(vae.parameters(), lr=0.01, fused=True)
    while True:
        for x in batches():
            optimizer.zero_grad(set_to_none=True)
            vae.loss(x.to(device).flatten(1)).backward()
            optimizer.step()
        yield


def by_item(train: Data, config: Config) -> Iterator[None]:
    loader = per_item_loader(train, config.batch_size or 500)
    return handwritten_epochs(config, train, lambda: iter(loader))


def in_memory(train: Data, config: Config) -> Iterator[None]:
    def batches() -> Iterator[Tensor]:
        for index in torch.randperm(len(train)).split(config.batch_size or 500):
            yield train.pixels[index].float() / train.levels

    return handwritten_epochs(config, train, batches)


def by_svi(train: Data, config: Config) -> Iterator[Any]:
    torch.manual_seed(config.seed)
    model = VAE(tuple(train.image_shape)).to(train.pixels.device)
    guide = GUIDES["amortized"](model)
    svi = SVI(model, guide, adam(model, guide, 0.01), AnalyticKL())
    assert (
        Pair(model, guide).number_of_parameters
        == HandwrittenVAE(train.data_dim).number_of_parameters
    )
    return fit(svi, train, config.epochs + 1, config.batch_size or 500, constant(), config.seed)


if __name__ == "__main__":
    cli(Config, main)
