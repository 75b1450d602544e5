"""What images does the model generate, and what do its latents encode?

The command draws images from the prior with its standard deviation multiplied by the temperature
(low temperatures give typical images, high ones unusual images), or from the aggregate posterior,
the average of q(z | x) over the data. It can also vary one latent at a time from -3 to 3,
interpolate between two test images, or redraw the finer groups of a hierarchy.

    python -m experiments sample runs/ppca-... --temperature 0.5 1.0 2.0
    python -m experiments sample runs/vae-... --of aggregate
    python -m experiments sample runs/vae-... --of traversals
    python -m experiments sample runs/vae-... --of interpolation --between 3 7
    python -m experiments sample runs/nvae-... --of groups --between 3 3
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from experiments.data import Data
from experiments.errors import UsageError
from experiments.evaluation.bounds import encode, rows_at_a_time
from experiments.evaluation.hierarchy import resampled_groups
from experiments.evaluation.sampling.samples import (
    aggregate_means,
    interpolations,
    prior_means,
    traversals,
)
from experiments.inference.frozen import held_out
from experiments.options.common import SavedRunOptions
from experiments.options.ranges import Count, NotNegativeInt, Positive, Several
from experiments.reports import plots
from experiments.reports.page import finish
from experiments.reports.words.titles import subject
from experiments.runs.cli import cli
from experiments.runs.files import write
from experiments.runs.run import Run
from experiments.training.nvae.batch_norms import readjusted
from experiments.training.pictures import TEMPERATURES, as_images
from experiments.training.saved_run import SavedRun, opened_for
from ppl_models.sites import describe


@dataclass(frozen=True)
class Config(SavedRunOptions):
    of: Literal["prior", "aggregate", "traversals", "interpolation", "groups"] = "prior"
    """Source of the latents: the prior at --temperature, the aggregate posterior, traversals of
    every latent, interpolation --between two test images, or a hierarchy's groups drawn from one
    level down. Traversals and groups start from the first image of --between."""
    temperature: tuple[Positive, ...] = TEMPERATURES
    """One or more temperatures above 0, of samples from the prior."""
    count: Count = 25
    """Number of images per temperature, or from the aggregate posterior."""
    between: tuple[int, int] = (0, 1)
    """Positions of two test images, counted from 0."""
    steps: Several = 11
    """Number of images along an interpolation or traversal, ends included, or of draws per
    group."""
    readjust: NotNegativeInt = 500
    """Passes that readjust batch norms to the temperature; 0 keeps the trained statistics."""


def main(config: Config) -> dict[str, Any]:
    with Run("sample", config) as run:
        saved = opened_for(run, by_datum=config.of != "prior")
        ends = two_images(saved.test, config.between)
        check_draws(config, saved)
        draw, heading = DRAWN[config.of]
        drawn = draw(saved, ends, config)
        tensors = {name.replace(" ", ""): images.contiguous() for name, images in drawn.items()}
        write(run.path / "samples.safetensors", lambda path: save_file(tensors, path))
        if saved.test.are_images:
            images = {name: as_images(part, saved.test) for name, part in drawn.items()}
            name = "samples" if config.of == "prior" else config.of
            if config.of in ("prior", "aggregate"):
                run.figure(name, plots.grids(images, math.ceil(config.count**0.5)))
            else:
                run.figure(name, plots.images_in_rows(images))
        metrics = saved.new_metrics(saved.test, config.seed, 1, estimator=config.of)
        metrics.more = {
            "of": config.of,
            "temperature": list(config.temperature) if config.of == "prior" else None,
            "count": config.count,
            "between": list(config.between),
            "mean_pixel": [float(torch.mean(images.double())) for images in drawn.values()],
        }
        title = f"{subject(metrics.model, metrics.data)}: {heading} ({config.run.name})"
        return finish(run, metrics, title, [], {})


def check_draws(config: Config, saved: SavedRun) -> None:
    """Refuse temperatures that have no effect or print alike, and images beyond --memory."""
    if config.of != "prior" and config.temperature != TEMPERATURES:
        raise UsageError(f"--temperature is for --of prior, not for --of {config.of}.")
    names = [f"{t:g}" for t in config.temperature]
    if len(set(names)) < len(names):
        raise UsageError(f"--temperature {' '.join(names)}: give each of them once.")
    most = rows_at_a_time(saved.model, saved.test, config.memory)
    if config.count > most:
        raise UsageError(
            f"--count {config.count}: at most {most} images fit into --memory {config.memory} GiB."
        )


def two_images(test: Data, between: tuple[int, int]) -> Data:
    """The two test images as a data set of their own."""
    for row in between:
        if not 0 <= row < len(test):
            raise UsageError(
                f"--between {between[0]} {between[1]}: there is no test image {row}; they are "
                f"0 to {len(test) - 1}."
            )
    return test.fixed().select(torch.tensor(between, device=test.pixels.device))


def from_prior(saved: SavedRun, ends: Data, config: Config) -> dict[str, Tensor]:
    drawn = {}
    for t in config.temperature:
        with readjusted(saved.directory, saved.model, t, config.readjust):
            drawn[f"T = {t:g}"] = prior_means(saved.model, config.count, t, config.seed)
    return drawn


def from_aggregate(saved: SavedRun, ends: Data, config: Config) -> dict[str, Tensor]:
    shown = aggregate_means(
        saved.model, saved.guide, saved.train.fixed(), config.count, config.seed
    )
    return {"aggregate posterior": shown}


def latent_traversals(saved: SavedRun, ends: Data, config: Config) -> dict[str, Tensor]:
    latents = describe(saved.model).latents
    if len(latents) != 1:
        raise UsageError(
            f"traversals need one vector latent; the model has {', '.join(latents)}: "
            "use --of groups."
        )
    guide = held_out(saved.model, saved.guide, ends)
    batch = next(iter(ends.batches(2)))
    (z,) = encode(guide, batch, saved.model).values()
    rows = traversals(saved.model, z[0], config.steps, batch)
    return {f"z {k + 1}": row for k, row in enumerate(rows)}


def interpolation(saved: SavedRun, ends: Data, config: Config) -> dict[str, Tensor]:
    guide = held_out(saved.model, saved.guide, ends)
    return interpolations(saved.model, guide, ends, (0, 1), config.steps)


def redrawn_groups(saved: SavedRun, ends: Data, config: Config) -> dict[str, Tensor]:
    guide = held_out(saved.model, saved.guide, ends)
    first = next(iter(ends.batches(1)))
    return resampled_groups(saved.model, guide, first, config.steps, config.seed)


DRAWN = {
    "prior": (from_prior, "samples"),
    "aggregate": (from_aggregate, "samples from the aggregate posterior"),
    "traversals": (latent_traversals, "one latent at a time"),
    "interpolation": (interpolation, "from one image to another"),
    "groups": (redrawn_groups, "coarse groups kept, finer ones drawn"),
}
"""What draws images, and the heading of the report."""


if __name__ == "__main__":
    cli(Config, main)
