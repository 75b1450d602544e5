"""Amortised inference beyond the Gaussian: transforms that depend on x, applied to its draws."""

from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import transforms
from pyro.nn import ConditionalAutoRegressiveNN, DenseNN
from torch import Tensor, nn

from guides.encoder import EncoderGuide
from guides.gaussian import loc_scale_of_encoder
from ppl_models.batch import Batch, data_plate
from ppl_models.networks import MLP, activation_of


def _autoregressive(dim: int, context: int, width: int) -> nn.Module:
    network = ConditionalAutoRegressiveNN(dim, context, [max(width, dim)])  # MADE needs as many
    return transforms.ConditionalAffineAutoregressive(network)


def _coupling(dim: int, context: int, width: int) -> nn.Module:
    split = dim // 2
    network = DenseNN(split + context, [width], [dim - split, dim - split])
    return transforms.ConditionalAffineCoupling(split, _BesideContext(network))


class _BesideContext(nn.Module):
    """A network of z and the context, one after the other."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: Tensor, context: Tensor) -> Any:
        context = context.expand(*z.shape[:-1], context.shape[-1])
        return self.network(torch.cat([z, context], -1))


TRANSFORMS = {"autoregressive": _autoregressive, "coupling": _coupling}


class Flow(EncoderGuide):
    r"""A Gaussian from an encoder, followed by n transforms that depend on x.

    .. math::
        e \sim \mathcal N(m(x), \operatorname{diag} s^2(x)), \quad
        z = T_n(\dots T_1(e; c(x)) \dots; c(x))

    Between two transforms the order of the latents is reversed. Under a prior with constrained
    support, the flow is defined in unconstrained coordinates and mapped to the support.

    Args:
        model: a model with one vector latent of at least two coordinates.
        transform: autoregressive transforms each latent given those before it, coupling one half
            of the latents given the other.
        length: number of transforms.
        context: number of encoder outputs that every transform takes as context.
        width: width of the hidden layer of each transform; raised to the dimension of z if it is
            smaller and the transforms are autoregressive.
        hidden_dims: widths of the encoder's hidden layers.
        activation: activation of the encoder.

    Raises:
        ValueError: If the model has anything but one vector latent with at least two fixed
            coordinates; if ``transform`` or ``activation`` is unknown; if ``length``, ``context``
            or ``width`` is below 1.

    References:
        Rezende & Mohamed (2015); Kingma et al. (2016), inverse autoregressive flow; Dinh et al.
        (2017), affine coupling.
    """

    def __init__(
        self,
        model: nn.Module,
        transform: Literal["autoregressive", "coupling"] = "autoregressive",
        length: int = 2,
        context: int = 32,
        width: int = 128,
        hidden_dims: tuple[int, ...] = (400,),
        activation: Literal["relu", "tanh", "silu", "gelu"] = "relu",
    ) -> None:
        super().__init__(model, "flow")
        dim = self._dim
        if transform not in TRANSFORMS or dim < 2 or min(length, context, width) < 1:
            raise ValueError(
                f"transform={transform!r} must be one of {', '.join(TRANSFORMS)}, the latent of "
                f"dimension {dim} have at least 2, and length={length}, context={context}, "
                f"width={width} be at least 1."
            )
        self._split = [2 * dim, context]
        outputs = (*hidden_dims, sum(self._split))
        self.encoder = MLP((self.context_dim, *outputs), activation_of(activation))
        self.transforms: Any = nn.ModuleList(
            TRANSFORMS[transform](dim, context, width) for _ in range(length)
        )
        self.like_model()

    def of(self, parameters: Tensor) -> dist.Distribution:
        """The density, given the parameters of the base and the context, side by side."""
        base, context = parameters.split(self._split, -1)
        loc, scale = loc_scale_of_encoder(base)
        parts: list[Any] = []
        for transform in self.transforms:
            if parts:
                reverse = torch.arange(loc.shape[-1] - 1, -1, -1, device=loc.device)
                parts.append(transforms.Permute(reverse))
            parts.append(transform.condition(context))
        flow = dist.TransformedDistribution(dist.Normal(loc, scale).to_event(1), parts)
        return self.coordinates.push(flow)

    def forward(self, batch: Batch) -> Tensor:
        q = self.of(*self.seen(batch))
        with data_plate(batch):
            return pyro.sample(self._site, q)
