"""Options of the two commands on the lab's nonlinear model."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from experiments.options.common import TrainOptions
from experiments.options.ranges import Count


@dataclass(frozen=True)
class VAEOptions(TrainOptions):
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

    @property
    def model_options(self) -> dict[str, Any]:
        """What the model's constructor is given besides the data's shape."""
        names = ("latent_dim", "hidden_dims", "network", "activation", "likelihood")
        return {name: getattr(self, name) for name in names}
