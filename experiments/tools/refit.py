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
from experiments.training.pair import make_guide, make_objective
from experiments.training.saved_run import opened
from experiments.training.train import conclude, train_pair


@dataclass(frozen=True, kw_only=True)
class Config(AnnealOptions, FitOptions, RunOptions):
    run: tyro.conf.Positional[Path]
    """Directory of a trained run."""
    model: str | None = None
    """The run's model, package.module:Class, where it is from outside this package: its code is
    imported only if it is named here, or with --trust."""
    trust: bool = False
    """Import the run's model and guide from outside this package, as the run names them."""
    data_root: Path | None = None
    """Where the data lie; by default $PPL_DATA, else ./data."""
    centre: bool = False
    """The encoder sees the mean image as zero."""


def main(config: Config) -> dict[str, Any]:
    with Run("refit", config) as run:
        saved = opened(config.run, config, run.device)
        model = saved.model.requires_grad_(False)
        guide = make_guide(run, model, saved.train)
        objective = make_objective(run, model)
        optimizer = OPTIMIZERS[config.optimizer](model, guide, config.lr)
        compile = compiles(run, guide, saved.train)
        svi = SVI(model, guide, optimizer, objective, compile=compile)
        own = {"guide": config.guide, "guide_options": config.guide_options}
        built = saved.config["pair"] | own
        # The data options of the first run make this one readable by itself.
        given = {name: value for name, value in run.options.items() if value is not None}
        run.options = saved.config["options"] | given
        record_data(run, saved.train, saved.test)
        run.data_changed = run.data_changed or saved.config["data_changed"]
        train_pair(run, svi, saved.train, built)
        return conclude(run, svi, saved.train, saved.test)


if __name__ == "__main__":
    cli(Config, main)
