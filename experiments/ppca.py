"""What does PCA become when it is a probability model?

The lab's task 4.2: probabilistic PCA by stochastic gradient steps. Under the guide ``exact`` the
ELBO is the log evidence itself; any other guide pays its gap.

    python -m experiments.ppca --data mnist --latent-dim 2 --guide exact
    python -m experiments.ppca --data digits --guide amortized --guide.encoder linear
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from experiments.data import Data
from experiments.inference.optim import OPTIMIZERS
from experiments.inference.svi import SVI
from experiments.options.common import TrainOptions
from experiments.options.ranges import Count
from experiments.runs.cli import cli
from experiments.runs.run import Run
from experiments.training.compiling import compiles
from experiments.training.data import load_data
from experiments.training.pair import make_guide, make_objective, prepare
from experiments.training.train import conclude, train_pair
from ppl_models import PPCA


@dataclass(frozen=True)
class Config(TrainOptions):
    latent_dim: Count = 2
    """M, the dimension of the latent space."""
    guide: str = "exact"
    """q(z | x): prior, point, exact, mean_field, full_rank or amortized. Its own options are
    --guide.OPTION."""
    model: ClassVar[str] = "ppca"
    method: Literal["svi", "closed_form", "em"] = "svi"
    """Gradient steps, the closed-form maximum of the likelihood, or --epochs steps of EM."""

    @property
    def model_options(self) -> dict[str, Any]:
        """What the model's constructor is given besides the data's size."""
        return {"latent_dim": self.latent_dim}


def main(config: Config) -> dict[str, Any]:
    with Run("ppca", config) as run:
        train, test = load_data(run)
        model = prepare(run, PPCA(train.data_dim, config.latent_dim), train)
        model = without_gradients(model, train, config)
        guide = make_guide(run, model, train)
        objective = make_objective(run, model)
        optimizer = OPTIMIZERS[config.optimizer](model, guide, config.lr)
        svi = SVI(model, guide, optimizer, objective, compile=compiles(run, guide, train))
        train_pair(run, svi, train)
        more: dict[str, Any] = {} if config.method == "svi" else {"decoder": "learned"}
        if config.method == "em":
            more["epochs"] = config.epochs
        return conclude(run, svi, train, test, method=config.method, **more)


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
