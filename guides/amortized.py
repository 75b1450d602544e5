"""Amortised inference: an encoder that maps a datum to its Gaussian."""

from collections.abc import Callable
from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from guides.encoder import EncoderGuide
from guides.gaussian import (
    initial_row,
    loc_scale_of_encoder,
    loc_scale_tril,
    number_of_parameters,
)
from ppl_models.batch import Batch, data_plate
from ppl_models.networks import MLP, Activation, ConvEncoder, activation_of
from ppl_models.sites import describe


def _flat(
    shape: torch.Size, hidden_dims: tuple[int, ...], outputs: int, activation: Activation
) -> MLP:
    return MLP((shape.numel(), *hidden_dims, outputs), activation)


ENCODERS: dict[str, Callable[[torch.Size, tuple[int, ...], int, Activation], Any]] = {
    "linear": lambda shape, _, outputs, activation: _flat(shape, (), outputs, activation),
    "mlp": _flat,
    "conv": lambda shape, _, outputs, activation: ConvEncoder(shape, outputs),
}
"""Networks from an image ``[*data_shape]`` (conv) or from a batch's context ``[C]``."""


class Amortized(EncoderGuide):
    r"""A Gaussian whose parameters are functions of x, shared by all data.

    .. math::
        q(z \mid x) = \mathcal N(z; m(x), \operatorname{diag} s^2(x))
        \quad\text{or}\quad \mathcal N(z; m(x), L(x) L(x)^\top)

    A linear encoder starts with a narrow q at the origin for every x; the others start with random
    weights, because with a last layer of zeros the decoder of a VAE would learn to ignore z.
    Under a prior with constrained support, the Gaussian is defined in unconstrained coordinates
    and mapped to the support.

    Args:
        model: a model with one vector latent.
        encoder: network of the encoder: an affine map, an MLP, or convolutions, which see x alone
            and need image sides divisible by 4.
        hidden_dims: widths of the hidden layers of an MLP encoder.
        activation: activation of an MLP encoder.
        covariance: covariance of q, diagonal or full (a Cholesky factor).

    Raises:
        ValueError: If the model has anything but one vector latent with fixed coordinates; if an
            option is unknown; if the encoder is conv and x is no image with such sides.

    References:
        Kingma & Welling (2014); Rezende, Mohamed & Wierstra (2014).
    """

    def __init__(
        self,
        model: nn.Module,
        encoder: Literal["linear", "mlp", "conv"] = "mlp",
        hidden_dims: tuple[int, ...] = (400,),
        activation: Literal["relu", "tanh", "silu", "gelu"] = "relu",
        covariance: Literal["diagonal", "full"] = "diagonal",
    ) -> None:
        if encoder not in ENCODERS or covariance not in ("diagonal", "full"):
            raise ValueError(
                f"encoder={encoder!r} must be one of {', '.join(ENCODERS)}; "
                f"covariance={covariance!r} must be diagonal or full."
            )
        super().__init__(model, "amortized")
        self._full = covariance == "full"
        outputs = number_of_parameters(self._dim, self._full)
        self._images = encoder == "conv"
        shape = describe(model).x if self._images else torch.Size([self.context_dim])
        layer = activation_of(activation)
        self.encoder = ENCODERS[encoder](shape, hidden_dims, outputs, layer)
        if encoder == "linear":
            nn.init.zeros_(self.encoder.head.weight)
            narrow = initial_row(self._dim, outputs)
            with torch.no_grad():  # log s where the covariance is full, log s^2 where diagonal
                self.encoder.head.bias.copy_(narrow if self._full else 2 * narrow)
        self.like_model()

    def context(self, batch: Batch) -> Tensor:
        return self.real(batch.only) if self._images else super().context(batch)

    def of(self, parameters: Tensor) -> dist.Distribution:
        """A density that is Gaussian in the coordinates of z."""
        if self._full:
            loc, scale_tril = loc_scale_tril(parameters, self._dim)
            return self.coordinates.push(dist.MultivariateNormal(loc, scale_tril=scale_tril))
        q = dist.Normal(*loc_scale_of_encoder(parameters)).to_event(1)
        return self.coordinates.push(q)

    def centre(self, mean: Tensor) -> None:
        """Subtract the mean image, ``[*data_shape]``, from the encoder's input.

        Raises:
            ValueError: If the encoder is not an MLP.
        """
        if not isinstance(self.encoder, MLP):
            raise ValueError("only a linear or mlp encoder can be centred at the mean image.")
        super().centre(mean)

    def forward(self, batch: Batch) -> Tensor:
        q = self.of(*self.seen(batch))
        with data_plate(batch):
            return pyro.sample(self._site, q)
