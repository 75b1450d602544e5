"""Amortised inference with several Gaussians per datum."""

from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guides.encoder import EncoderGuide
from guides.gaussian import loc_scale_of_encoder
from ppl_models.batch import Batch, data_plate
from ppl_models.networks import MLP, activation_of


class Mixture(EncoderGuide):
    r"""An equally weighted mixture of Gaussians from one encoder, with the component as an input.

    .. math::
        q(z \mid x) = \frac1S \sum_{s=1}^S \mathcal N(z; m_s(x), \operatorname{diag} \sigma_s^2(x))

    The component enters the encoder's first layer as a one-hot vector beside x. Draws of a mixture
    cannot be reparametrised, so it is trained with ``miselbo``, which draws from every component.
    Under a prior with constrained support, the mixture is defined in unconstrained coordinates and
    mapped to the support.

    Args:
        model: a model with one vector latent.
        components: number of Gaussians in the mixture (S).
        hidden_dims: widths of the encoder's hidden layers, at least one.
        activation: activation of the encoder.

    Raises:
        ValueError: If the model has anything but one vector latent with fixed coordinates, if
            ``components`` is below 1, if ``hidden_dims`` is empty, or ``activation`` is unknown.

    References:
        Kviman, Molén, Hotti, Kurt, Elvira & Lagergren (2023), mixture VAEs.
    """

    objective = "miselbo"

    def __init__(
        self,
        model: nn.Module,
        components: int = 8,
        hidden_dims: tuple[int, ...] = (400,),
        activation: Literal["relu", "tanh", "silu", "gelu"] = "relu",
    ) -> None:
        if components < 1 or not hidden_dims:
            raise ValueError(
                f"components={components} must be at least 1, hidden_dims={hidden_dims} not empty."
            )
        super().__init__(model, "mixture")
        self.components = components
        inputs = self.context_dim + components
        self.encoder = MLP((inputs, *hidden_dims, 2 * self._dim), activation_of(activation))
        self.like_model()

    def features(self, batch: Batch) -> tuple[Tensor, ...]:
        """Every component's parameters, ``[B, S, 2M]``."""
        first, *rest = self.encoder.layers
        # the first layer of [x, one-hot s] is a sum of two parts
        of_x, of_s = first.weight.tensor_split([-self.components], 1)
        h = F.linear(self.context(batch), of_x, first.bias).unsqueeze(-2) + of_s.mT
        for layer in rest:
            h = layer(h)
        return (h,)

    def of(self, parameters: Tensor) -> Any:
        """The mixture of components with these parameters, in the coordinates of z."""
        loc, scale = loc_scale_of_encoder(parameters)
        even = dist.Categorical(logits=torch.zeros_like(loc[..., 0]))
        mixture = dist.MixtureSameFamily(even, dist.Normal(loc, scale).to_event(1))
        return self.coordinates.push(mixture)

    def forward(self, batch: Batch) -> Tensor:
        q = self.of(*self.seen(batch))
        with data_plate(batch):
            return pyro.sample(self._site, q)
