"""What does an encoder gain? The lab's variational autoencoder.

Lab 3, second half: a decoder with one hidden layer and a Gaussian likelihood, an
encoder of the same size as the guide, and the ELBO with its KL in closed form.

    python -m experiments vae --data mnist
    python -m experiments vae --data digits --latent-dim 10 --likelihood gaussian_per_pixel
    python -m experiments vae --data digits --binarize dynamic --likelihood bernoulli --guide flow
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from experiments.options.common import TrainOptions
from experiments.options.ranges import Count, Fraction
from experiments.runs.cli import cli
from experiments.runs.run import Run
from experiments.training.data import load_data
from experiments.training.pair import make_guide, make_objective, make_svi, prepare
from experiments.training.train import conclude, train_pair
from ppl_models import VAE


@dataclass(frozen=True)
class Config(TrainOptions):
    OF_DATA: ClassVar = {"digits": {"batch_size": 50}}
    group: ClassVar[str] = "model"
    model: ClassVar[str] = "vae"

    latent_dim: Count = 2
    """M, the dimension of the latent space."""
    hidden_dims: tuple[Count, ...] = (400,)
    """Widths of the decoder's hidden layers."""
    network: Literal["mlp", "conv"] = "mlp"
    """Network of the decoder."""
    activation: Literal["relu", "tanh", "silu", "gelu"] = "relu"
    """Activation of the decoder's MLP."""
    likelihood: Literal[
        "gaussian",
        "gaussian_per_pixel",
        "gaussian_decoder",
        "low_rank",
        "bernoulli",
        "continuous_bernoulli",
        "logit_normal",
        "beta",
        "discretized_logistic",
        "discretized_logistic_mixture",
    ] = "gaussian"
    """p(x | z); bernoulli needs --binarize, logit_normal and beta need --dequantize."""
    guide: str = "amortized"
    """q(z | x): amortized, flow, mixture, semi_amortized, prior, point, mean_field or full_rank.
    Options of the guide are --guide.OPTION."""
    warmup: Fraction = 0.05
    """Fraction of training in which the learning rate rises from zero."""
    objective: str | None = None
    """elbo_analytic_kl, elbo, elbo_free_bits, stl, iwae, dreg or renyi; by default
    elbo_analytic_kl, or the guide's own (iwae for prior, miselbo for mixture, log_joint for
    point)."""

    @property
    def model_options(self) -> dict[str, Any]:
        """What the model's constructor is given besides the data's shape."""
        names = ("latent_dim", "hidden_dims", "network", "activation", "likelihood")
        return {name: getattr(self, name) for name in names}


def main(config: Config) -> dict[str, Any]:
    return train_vae("vae", config)


def train_vae(command: str, config: Config) -> dict[str, Any]:
    """The VAE's model under the guide and objective that the options ask for."""
    with Run(command, config) as run:
        train, test = load_data(run)
        model = prepare(run, VAE(tuple(train.image_shape), **config.model_options), train, test)
        guide = make_guide(run, model, train)
        objective = make_objective(run, model, "elbo_analytic_kl")
        svi = make_svi(run, model, guide, objective, train)
        train_pair(run, svi, train)
        return conclude(run, svi, train, test)


if __name__ == "__main__":
    cli(Config, main)
