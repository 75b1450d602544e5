"""How good is a saved run? Bounds on log p(x) and the squared error, on train or test images.

With more particles, the importance-weighted bound rises towards log p(x); a low effective sample
size means that the bound is still loose. With the guide prior, all images share the draws, and the
bound also has a standard error over draws. The report adds rate and distortion, the active
latents, and the distance of the aggregate posterior from the prior.

    python -m experiments evaluate runs/vae-... --particles 100
    python -m experiments evaluate runs/nonlinear-... --particles 20000
    python -m experiments evaluate runs/ppca-... --split both
"""

from dataclasses import dataclass
from typing import Any, Literal

from experiments.evaluation.aggregate import aggregate_figures
from experiments.evaluation.metrics import measure, protocol, summary
from experiments.options.common import SavedRunOptions
from experiments.options.ranges import Count
from experiments.reports.page import finish_pair
from experiments.runs.cli import cli
from experiments.runs.metrics import save_values
from experiments.runs.run import Run
from experiments.training.saved_run import opened_for


@dataclass(frozen=True)
class Config(SavedRunOptions):
    particles: Count = 100
    """Draws from q per image."""
    split: Literal["both", "train", "test"] = "test"
    """Images to evaluate: test, train, or both."""


def main(config: Config) -> dict[str, Any]:
    with Run("evaluate", config) as run:
        saved = opened_for(run)
        metrics = saved.new_metrics(saved.test, config.seed, config.particles)
        trained = {name: saved.metrics.get(name) for name in ("objective", "epochs", "seconds")}
        metrics.more = {"trained": trained}
        for data in (saved.train.fixed(), saved.test.fixed()):
            if config.split in ("both", data.split):
                measured = measure(
                    saved.model, saved.guide, data, config.seed, config.particles, config.memory
                )
                figures = summary(measured.values, saved.guide, config.particles)
                figures |= aggregate_figures(saved.model, measured.guide, data, config.seed)
                metrics.add(data.split, figures)
                metrics.protocol = protocol(data, saved.guide, config.particles)
                save_values(run.path, measured.values)
        return finish_pair(run, metrics, subtitle=config.run.name)


if __name__ == "__main__":
    cli(Config, main)
