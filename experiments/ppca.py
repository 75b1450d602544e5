"""What does PCA become when it is a probability model?

Lab 2: probabilistic PCA by stochastic gradient steps. With the guide ``exact`` the
ELBO equals log p(x); with any other guide it is lower.

    python -m experiments ppca --data mnist --latent-dim 2 --guide exact
    python -m experiments ppca --data digits --guide amortized --guide.encoder linear
    python -m experiments ppca --data digits --latent-dim 10 --method closed_form
"""

import time
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from experiments.data import Data
from experiments.errors import UsageError
from experiments.options.common import TrainOptions
from experiments.options.ranges import Count
from experiments.runs.cli import cli
from experiments.runs.run import Run
from experiments.training.data import load_data
from experiments.training.pair import make_guide, make_objective, make_svi, prepare
from experiments.training.train import conclude, train_pair
from ppl_models import PPCA


@dataclass(frozen=True)
class Config(TrainOptions):
    OF_DATA: ClassVar = {"digits": {"batch_size": 50}}
    group: ClassVar[str] = "model"
    model: ClassVar[str] = "ppca"

    latent_dim: Count = 2
    """M, the dimension of the latent space."""
    guide: str = "exact"
    """q(z | x): exact, prior, point, mean_field, full_rank, amortized, flow, mixture or
    semi_amortized. Options of the guide are --guide.OPTION."""
    method: Literal["svi", "closed_form", "em"] = "svi"
    """Fit by gradient steps (svi), by the maximum-likelihood solution (closed_form), or by
    --epochs steps of expectation-maximisation (em)."""

    @property
    def model_options(self) -> dict[str, Any]:
        """What the model's constructor is given besides the data's size."""
        return {"latent_dim": self.latent_dim}


def main(config: Config) -> dict[str, Any]:
    check(config)
    with Run("ppca", config) as run:
        train, test = load_data(run)
        model = prepare(run, PPCA(train.data_dim, config.latent_dim), train, test)
        began = time.perf_counter()
        model = without_gradients(model, train, config)
        seconds = time.perf_counter() - began
        guide = make_guide(run, model, train)
        objective = make_objective(run, model)
        svi = make_svi(run, model, guide, objective, train)
        train_pair(run, svi, train)
        more: dict[str, Any] = {"optimum": optimum(run, train, test)}
        if config.method != "svi":
            run.train_seconds += seconds
            more["decoder"] = "learned"
        if config.method == "em":
            more["epochs"] = config.epochs
        return conclude(run, svi, train, test, method=config.method, **more)


def check(config: Config) -> None:
    """Refuse a frozen decoder, which expectation-maximisation could not improve."""
    frozen = config.decoder == "frozen" or (config.decoder is None and config.guide == "point")
    if config.method == "em" and frozen:
        raise UsageError(
            "--method em learns p, but --decoder is frozen (the default of --guide point): use "
            "--method closed_form."
        )


def optimum(run: Run, train: Data, test: Data) -> dict[str, float] | None:
    """log p(x) at the closed-form maximum of the likelihood [nats], where there is one."""
    if train.data_dim > 1024:  # the decomposition would take longer than the training
        return None
    x, held_out = (split.fixed().observations().double().flatten(1) for split in (train, test))
    try:
        best = PPCA.maximum_likelihood(x, run.config.latent_dim).marginal()
    except ValueError:  # as many latents as the data's rank
        return None
    return {
        "train": best.log_prob(x).mean().item(),
        "test": best.log_prob(held_out).mean().item(),
    }


def without_gradients(model: PPCA, train: Data, config: Config) -> PPCA:
    """The model as it is, or fitted by one of the methods that need no gradient."""
    if config.method == "svi":
        return model
    x = train.fixed().like(model).observations()
    if config.method == "em":
        for _ in range(config.epochs):
            model.em_step(x)
    else:
        model = PPCA.maximum_likelihood(x.double(), config.latent_dim).to(x)
    return model.requires_grad_(False)


if __name__ == "__main__":
    cli(Config, main)
