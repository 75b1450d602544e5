"""Do data simulated from a fitted model look like the real data? Posterior predictive checks.

The command simulates replicated test sets, with the latents of each image drawn from q(z | x) or,
with --latents prior, from the prior. It compares a few statistics of the real test set with those
of the replicates. A tail area near 0 or 1 means that the model does not produce such data.

    python -m experiments predictive runs/vae-...
    python -m experiments predictive runs/ppca-... --latents prior --sets 200
    python -m experiments predictive runs/vae-... --images 200
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pyro

from experiments.data import Data
from experiments.errors import UsageError
from experiments.evaluation.bounds import rows_at_a_time
from experiments.evaluation.predictive import replicated_sets, tail_areas
from experiments.inference.frozen import held_out
from experiments.options.common import SavedRunOptions
from experiments.options.ranges import Several, at_least
from experiments.reports import plots
from experiments.reports.markdown import markdown_table
from experiments.reports.page import finish
from experiments.reports.words.titles import counted, joined, subject
from experiments.runs.cli import cli
from experiments.runs.run import Run
from experiments.training.pictures import as_images
from experiments.training.saved_run import opened_for


@dataclass(frozen=True)
class Config(SavedRunOptions):
    latents: Literal["guide", "prior"] = "guide"
    """Where latents are drawn from: q(z | x) of each image (posterior predictive), or p(z)."""
    sets: Annotated[int, at_least(40)] = 100
    """Number of replicated data sets, at least 40; a tail area below 1/40 at either end is called
    unusual."""
    images: Several = 1000
    """Maximum number of test images, from the first."""


def main(config: Config) -> dict[str, Any]:
    with Run("predictive", config) as run:
        saved = opened_for(run)
        data = saved.images(config.images)
        check_memory(config, data)
        guide = held_out(saved.model, saved.guide, data)
        guide.eval()  # a user's class may return nothing
        q = guide if config.latents == "guide" else None
        rows_at_once = rows_at_a_time(saved.model, data, config.memory, 500)
        with pyro.validation_enabled(False):
            made = replicated_sets(saved.model, q, data, config.sets, rows_at_once)
        x = data.observations()
        rows = tail_areas(x.flatten(1), made.flatten(2))
        run.say(f"\n{markdown_table(rows)}")
        if data.are_images:
            shown = {"x": x, **{f"set {k}": one for k, one in enumerate(made[:5], 1)}}
            images = {name: as_images(part[:10], data) for name, part in shown.items()}
            run.figure("replicated", plots.images_in_rows(images))
        metrics = saved.new_metrics(data, config.seed, None, latents=config.latents)
        metrics.more = {"checks": rows, "sets": config.sets}
        title = f"{subject(metrics.model, metrics.data)}: do simulated data look like the data?"
        return finish(run, metrics, title, [in_words(rows, config)], {"Checks": rows})


def in_words(rows: list[dict[str, Any]], config: Config) -> str:
    """Which statistics of the data the model does not reproduce."""
    outside = [row["statistic"] for row in rows if not 0.025 <= row["tail area"] <= 0.975]
    begin = f"Among {config.sets} data sets simulated by the model, the data are"
    if not outside:
        return f"{begin} ordinary in all {counted(len(rows), 'statistic')}."
    return f"{begin} unusual in {joined(outside)}: the model does not reproduce that."


def check_memory(config: Config, data: Data) -> None:
    """Refuse more replicated images than fit into --memory."""
    gib = config.sets * len(data) * data.data_dim * data.dtype.itemsize / 2**30
    if gib > config.memory:
        raise UsageError(
            f"{config.sets} sets of {len(data)} images are {gib:.2f} GiB, more than --memory "
            f"{config.memory}; take fewer --sets or --images."
        )


if __name__ == "__main__":
    cli(Config, main)
