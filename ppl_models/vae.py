"""The variational autoencoder's model: a latent, a decoder network, a likelihood."""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_models.batch import Batch, data_plate
from ppl_models.likelihoods import LIKELIHOODS
from ppl_models.names import unknown
from ppl_models.networks import ACTIVATIONS, ConvDecoder, ImageMLP
from ppl_models.program import Program


class VAE(Program):
    r"""A nonlinear latent-variable model.

    .. math::
        z_n &\sim \mathcal N(0, I_M) \\
        x_n \mid z_n &\sim p(x \mid \operatorname{decoder}(z_n))

    The encoder is part of a guide, not of the model.

    Args:
        data_shape: the shape of an image, ``(C, H, W)``.
        latent_dim: M, the dimension of a latent.
        likelihood: the family of p(x | z), a name in ``LIKELIHOODS``.
        network: network of the decoder, mlp or conv; conv needs images with sides divisible by 4.
        hidden_dims: widths of the MLP's hidden layers.
        activation: activation of the MLP, a name in ``ACTIVATIONS``.

    Raises:
        ValueError: If a size is not positive, a name is unknown, or conv gets images with
            other sides.

    References:
        Kingma & Welling (2014); Rezende, Mohamed & Wierstra (2014).
    """

    def __init__(
        self,
        data_shape: tuple[int, ...],
        latent_dim: int = 2,
        likelihood: str = "gaussian",
        network: str = "mlp",
        hidden_dims: tuple[int, ...] = (400,),
        activation: str = "relu",
    ) -> None:
        super().__init__()
        if latent_dim < 1:
            raise ValueError(f"latent_dim={latent_dim} must be at least 1.")
        for kind, name, names in (
            ("likelihood", likelihood, LIKELIHOODS),
            ("network", network, ("mlp", "conv")),
            ("activation", activation, ACTIVATIONS),
        ):
            if name not in names:
                raise ValueError(unknown(kind, name, names))
        self.latent_dim = latent_dim
        self.likelihood = LIKELIHOODS[likelihood](data_shape)
        number = self.likelihood.parameters_per_pixel
        self.decoder: nn.Module = (
            ImageMLP(latent_dim, hidden_dims, number, data_shape, ACTIVATIONS[activation])
            if network == "mlp"
            else ConvDecoder(latent_dim, number, data_shape)
        )

    def prior(self) -> dist.Distribution:
        """p(z), a standard normal with event ``[M]``."""
        like = next(self.decoder.parameters())
        zeros, ones = like.new_zeros(self.latent_dim), like.new_ones(self.latent_dim)
        return dist.Normal(zeros, ones).to_event(1)

    @torch.no_grad()
    def centre(self, mean: Tensor) -> None:
        """Set the decoder's output bias so that it starts near the mean image, ``[*data_shape]``.

        Raises:
            ValueError: If the decoder is not an MLP, or the likelihood cannot be inverted for its
                mean.
        """
        parameters = self.likelihood.parameters_of_mean(mean)
        if parameters is None or not isinstance(self.decoder, ImageMLP):
            raise ValueError(
                "only an mlp decoder under gaussian, gaussian_per_pixel or bernoulli can start "
                "at the mean image."
            )
        self.decoder.mlp.head.bias.copy_(parameters.flatten())

    def forward(self, batch: Batch) -> Tensor:
        with data_plate(batch):
            z = pyro.sample("z", self.prior())
            x = self.likelihood.distribution(self.decoder(z))
            return pyro.sample("x", x, obs=batch.x)
