"""How noisy is the gradient of each objective, for the decoder and for the encoder?

The command computes many gradients on one batch of a saved run, for every objective and number of
particles. It reports their noise and signal-to-noise ratio and, for estimators of the same
gradient, how far their means differ compared with the noise. With more particles, importance
weighting loses the encoder's signal in noise (Rainforth et al. 2018); dreg does not.

    python -m experiments gradients runs/vae-...
    python -m experiments gradients runs/vae-... --objectives elbo stl --draws 1
    python -m experiments gradients runs/vae-... --objectives iwae dreg --draws 5 50
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from experiments.data import Data
from experiments.errors import UsageError
from experiments.evaluation.gradient_noise import Moments, distance, moments
from experiments.inference.objectives import OBJECTIVES, check_objective
from experiments.options.common import SavedRunOptions
from experiments.options.constructors import own_objective
from experiments.options.ranges import Count, Several
from experiments.reports import plots
from experiments.reports.markdown import markdown_table
from experiments.reports.page import finish
from experiments.reports.words.titles import subject
from experiments.runs.cli import cli
from experiments.runs.run import Run
from experiments.training.saved_run import SavedRun, opened_for

SAME = {"stl": "elbo", "elbo_analytic_kl": "elbo", "dreg": "iwae"}
"""Estimators of the same gradient as another objective."""


@dataclass(frozen=True)
class Config(SavedRunOptions):
    objectives: tuple[str, ...] = ("elbo", "stl", "iwae", "dreg", "renyi")
    """Objectives to compare; list stl and elbo_analytic_kl after elbo, and dreg after iwae."""
    draws: tuple[Count, ...] = (1, 5, 25)
    """Numbers of particles per datum to compare."""
    images: Several = 100
    """Number of test images in the batch."""
    steps: Several = 200
    """Number of gradients per objective."""


def main(config: Config) -> dict[str, Any]:
    with Run("gradients", config) as run:
        saved = opened_for(run)
        for objective in config.objectives:
            guide = saved.config["pair"]["guide"]
            check_objective(guide, own_objective(guide), objective)
        data = saved.images(config.images)
        rows = table(saved, data, config)
        run.say(f"\n{markdown_table(rows)}")
        names = [f"{row['objective']}, {row['particles']}" for row in rows]
        for part in ("q", "p"):
            ratios = [row[f"{part}: signal to noise"] for row in rows]
            figure = plots.bars(names, ratios, "signal to noise", linear=False)
            run.figure(f"signal_{part}", figure)
        metrics = saved.new_metrics(data, config.seed, max(config.draws))
        metrics.more = {"gradients": rows}
        title = f"{subject(metrics.model, metrics.data)}: the noise of every objective's gradient"
        tables = {"Gradients [nats per data point]": rows}
        return finish(run, metrics, title, [in_words(rows)], tables)


def in_words(rows: list[dict[str, Any]]) -> str:
    """The objectives with the best and the worst signal for the guide."""
    ratio = "q: signal to noise"
    best, worst = max(rows, key=lambda row: row[ratio]), min(rows, key=lambda row: row[ratio])
    return (
        f"For the guide, the gradient of {best['objective']} with K = {best['particles']} has the "
        f"best signal-to-noise ratio, {best[ratio]:.3g}; that of {worst['objective']} with "
        f"K = {worst['particles']} has the worst, {worst[ratio]:.3g}."
    )


def table(saved: SavedRun, data: Data, config: Config) -> list[dict[str, Any]]:
    """One row per objective and number of particles."""
    (batch,) = data.batches(len(data))
    parts: dict[str, nn.Module] = {"q": saved.guide, "p": saved.model}
    found: dict[tuple[str, int, str], Moments] = {}
    rows = []
    torch.manual_seed(config.seed)  # once: estimators that share draws would share their noise
    for count in config.draws:
        for name in config.objectives:
            row: dict[str, Any] = {"objective": name, "particles": count}
            for part, module in parts.items():
                parameters = [p for p in module.parameters() if p.requires_grad]
                if not parameters:
                    raise UsageError(f"{part} of {config.run} has no parameters of its own.")
                objective = OBJECTIVES[name](count)
                here = moments(
                    saved.model, saved.guide, objective, batch, parameters, config.steps
                )
                found[name, count, part] = here
                row[f"{part}: noise"] = here.noise
                row[f"{part}: signal to noise"] = here.signal_to_noise
                if part == "q":
                    other = found.get((SAME.get(name, ""), count, part))
                    row["q: apart (noise alone)"] = None if other is None else apart(here, other)
            rows.append(row)
    return rows


def apart(one: Moments, other: Moments) -> str:
    """The distance of two means, and in brackets what their noise alone would give."""
    return "{:.3g} ({:.3g})".format(*distance(one, other))


if __name__ == "__main__":
    cli(Config, main)
