"""What does the model believe images look like? Draws from the prior at several temperatures.

Latents come from the prior with its standard deviation multiplied by T and are decoded to their
mean. Low temperatures give typical images, high ones the far corners.

    python -m experiments.sample runs/ppca-... --temperature 0.5 1.0 2.0
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import save_file

from experiments.evaluation.samples import prior_means
from experiments.inference.svi import Pair
from experiments.runs import plots
from experiments.runs.checkpoint import open_run
from experiments.runs.cli import cli
from experiments.runs.errors import UsageError
from experiments.runs.files import write
from experiments.runs.metrics import protocol
from experiments.runs.options import SavedRunOptions
from experiments.runs.pictures import TEMPERATURES, as_images
from experiments.runs.run import Run


@dataclass(frozen=True)
class Config(SavedRunOptions):
    temperature: tuple[float, ...] = TEMPERATURES
    """One or several temperatures, above 0."""
    count: int = 25
    """Images per temperature."""


def main(config: Config) -> dict[str, Any]:
    for temperature in config.temperature:
        if not 0 < temperature < float("inf"):
            raise UsageError(f"--temperature must be above 0, got {temperature}.")
    with Run("sample", config) as run:
        saved = open_run(config.run, config.data_root, run.device)
        run.save_config(of=saved.config)
        drawn = {
            f"T = {t:g}": as_images(
                prior_means(saved.model, config.count, t, config.seed), saved.test
            )
            for t in config.temperature
        }
        tensors = {name.replace(" ", ""): images.contiguous() for name, images in drawn.items()}
        write(run.path / "samples.safetensors", lambda path: save_file(tensors, path))
        if len(saved.test.image_shape) == 3:
            side = math.ceil(config.count**0.5)
            run.figure("samples", plots.grids(drawn, side))
        pair = saved.config["pair"]
        metrics = {
            "model": pair["model"], "guide": pair["guide"], "objective": None,
            "data": saved.test.name, "seed": config.seed, "epochs": 0,
            "parameters": Pair(saved.model, saved.guide).number_of_parameters, "seconds": {},
            "protocol": protocol(saved.test, saved.guide, 1) | {"estimator": "prior"},
            "temperature": list(config.temperature), "count": config.count,
            "mean_pixel": [float(torch.mean(images.double())) for images in drawn.values()],
        }  # fmt: skip
        return run.finish(metrics, f"Samples from {config.run}.", {})


if __name__ == "__main__":
    cli(Config, main)
