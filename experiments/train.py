"""What does a guide or an objective change? Any model x guide x objective x data.

The model, the guide and the objective are chosen by name; models and guides may be classes of your
own.

    python -m experiments train --model ppca --guide mean_field --data digits --latent-dim 10
    python -m experiments train --model vae --data digits --objective iwae --particles 10
    python -m experiments train --model mypackage.mymodule:MyModel --guide amortized --data mnist
"""

from dataclasses import dataclass, field
from typing import Any

import tyro

from experiments.options.common import TrainOptions
from experiments.runs.cli import cli
from experiments.runs.run import Run
from experiments.training.data import load_data
from experiments.training.pair import make_guide, make_objective, make_svi, prepare
from experiments.training.saved_run import build_model
from experiments.training.train import conclude, train_pair


@dataclass(frozen=True)
class Config(TrainOptions):
    model: str = "ppca"
    """p(x, z): ppca, vae, or a class of your own as package.module:Class. Options of the model
    are --model.OPTION, or --OPTION for short."""
    model_options: tyro.conf.Suppress[dict[str, Any]] = field(default_factory=dict)
    """Options of the model's constructor."""


def main(config: Config) -> dict[str, Any]:
    with Run("train", config) as run:
        train, test = load_data(run)
        model = prepare(run, build_model(config.model, train, config.model_options), train, test)
        guide = make_guide(run, model, train)
        objective = make_objective(run, model)
        svi = make_svi(run, model, guide, objective, train)
        train_pair(run, svi, train)
        return conclude(run, svi, train, test)


if __name__ == "__main__":
    cli(Config, main)
