"""What would another guide have seen? The decoder of a saved run, frozen, under a new guide.

python -m experiments refit runs/ppca-... --guide mean_field --epochs 200
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from experiments.inference.optim import OPTIMIZERS
from experiments.inference.svi import SVI
from experiments.options.common import AnnealOptions, FitOptions, RunOptions
from experiments.runs.cli import cli
from experiments.runs.run import Run
from experiments.training.compiling import compiles
from experiments.training.data import record_data
from experiments.training.saved_run import opened
from experiments.training.train import (
    centre,
    conclude,
    fit_run,
    make_guide,
    make_objective,
    recipe,
    start,
)


@dataclass(frozen=True, kw_only=True)
class Config(AnnealOptions, FitOptions, RunOptions):
    run: tyro.conf.Positional[Path]
    """Directory of a trained run."""
    model: str | None = None
    """The run's model, package.module:Class, where it is from outside this package: its code is
    imported only if it is named here."""
    data_root: Path | None = None
    """Where the data lie; by default $PPL_DATA, else ./data."""
    centre: bool = False
    """The encoder sees the mean image as zero."""


def main(config: Config) -> dict[str, Any]:
    with Run("refit", config) as run:
        saved = opened(config.run, config, run.device)
        model = saved.model.requires_grad_(False)
        guide = make_guide(run, model, config.guide, config.guide_options, saved.train)
        if config.centre:
            centre(saved.train, guide)
        objective = make_objective(model, config.guide, config.objective, config.particles, config)
        optimizer = OPTIMIZERS[config.optimizer](model, guide, config.lr)
        compile = compiles(run, guide, saved.train)
        svi = SVI(model, guide, optimizer, objective, compile=compile)
        of = saved.config["pair"]
        built = recipe(of["model"], of["model_options"], config.guide, config.guide_options)
        # The data options of the first run make this one readable by itself.
        own = {name: value for name, value in run.options.items() if value is not None}
        run.options = saved.config["options"] | own
        record_data(run, saved.train, saved.test)
        run.data_changed = run.data_changed or saved.config["data_changed"]
        start(run, svi, built)
        fit_run(run, svi, saved.train)
        return conclude(run, svi, saved.train, saved.test, built)


if __name__ == "__main__":
    cli(Config, main)
