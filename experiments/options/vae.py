"""Options of the two commands on the lab's nonlinear model."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from experiments.options.common import TrainOptions

__all__ = ["VAEOptions"]


@dataclass(frozen=True)
class VAEOptions(TrainOptions):
    model: ClassVar[str] = "vae"
    latent_dim: int = 2
    """M, the dimension of the latent space."""
    hidden_dims: tuple[int, ...] = (400,)
    """Widths of the decoder's hidden layers."""
    network: Literal["mlp", "conv"] = "mlp"
    """Of the decoder."""
    activation: Literal["relu", "tanh", "silu", "gelu"] = "relu"
    """Of the decoder's MLP."""
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
    """p(x | z); bernoulli wants --binarize, logit_normal and beta want --dequantize."""

    @property
    def model_options(self) -> dict[str, Any]:
        """What the model's constructor is given besides the data's shape."""
        names = ("latent_dim", "hidden_dims", "network", "activation", "likelihood")
        return {name: getattr(self, name) for name in names}
