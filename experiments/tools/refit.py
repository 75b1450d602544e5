"""How good is another guide? A new guide for the frozen decoder of a saved run.

The model keeps its parameters, and only the new guide is trained on the data of the run.

    python -m experiments refit runs/ppca-... --guide mean_field --epochs 200
    python -m experiments refit runs/vae-... --guide amortized --guide.covariance full
    python -m experiments refit runs/vae-... --guide flow --objective stl
"""

from dataclasses import dataclass, fields
from typing import Any

from experiments.errors import UsageError
from experiments.options.common import (
    AnnealOptions,
    DataOptions,
    FitOptions,
    RunOptions,
    SavedRunOptions,
)
from experiments.runs.cli import cli
from experiments.runs.run import Run
from experiments.training.data import record_data
from experiments.training.pair import make_guide, make_objective, make_svi
from experiments.training.saved_run import opened
from experiments.training.train import conclude, train_pair


@dataclass(frozen=True)
class Config(AnnealOptions, FitOptions, RunOptions, SavedRunOptions):
    centre: bool = False
    """Subtract the mean image from the encoder's input."""


def main(config: Config) -> dict[str, Any]:
    with Run("refit", config) as run:
        saved = opened(config.run, config, run.device)
        if config.products == "bfloat16" and saved.config["options"]["dtype"] == "float64":
            raise UsageError(
                f"--products bfloat16 rounds float32, and {config.run} computes in float64."
            )
        model = saved.model.requires_grad_(False)
        guide = make_guide(run, model, saved.train)
        objective = make_objective(run, model)
        svi = make_svi(run, model, guide, objective, saved.train)
        own = {"guide": config.guide, "guide_options": config.guide_options}
        built = saved.config["pair"] | own
        # The data options of the first run make this one readable by itself.
        of_data = {field.name for field in fields(DataOptions)}
        given = {n: v for n, v in run.options.items() if v is not None or n not in of_data}
        run.options = saved.config["options"] | given
        record_data(run, saved.train, saved.test)
        run.data_changed = run.data_changed or saved.config["data_changed"]
        train_pair(run, svi, saved.train, built)
        return conclude(run, svi, saved.train, saved.test)


if __name__ == "__main__":
    cli(Config, main)
