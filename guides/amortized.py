"""Amortised inference: an encoder that maps a datum to its Gaussian."""

import math
from collections.abc import Callable
from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from guides.gaussian import initial_row, loc_scale, loc_scale_tril, number_of_parameters
from guides.guide import Guide, single_latent
from ppl_models.networks import MLP
from ppl_models.program import Batch, data_plate

__all__ = ["ENCODERS", "Amortized"]

ENCODERS: dict[str, Callable[[int, tuple[int, ...], int], nn.Module]] = {
    "linear": lambda data_dim, hidden_dims, outputs: MLP((data_dim, outputs)),
    "mlp": lambda data_dim, hidden_dims, outputs: MLP((data_dim, *hidden_dims, outputs)),
}


class Amortized(Guide):
    r"""A Gaussian whose parameters are functions of x, shared by all data.

    .. math::
        q(z \mid x) = \mathcal N(z; m(x), \operatorname{diag} s^2(x))
        \quad\text{or}\quad \mathcal N(z; m(x), L(x) L(x)')

    The last layer starts at zero: q starts narrow, at the origin, for every x.

    Args:
        model: a model with one vector latent.
        encoder: one affine map, or an MLP with ReLU.
        hidden_dims: widths of the MLP's hidden layers.
        covariance: of q, diagonal or full (a Cholesky factor).

    Raises:
        ValueError: If the model has several latents, or an option is unknown.

    References:
        Kingma & Welling (2014); Rezende, Mohamed & Wierstra (2014).
    """

    def __init__(
        self,
        model: nn.Module,
        encoder: Literal["linear", "mlp"] = "mlp",
        hidden_dims: tuple[int, ...] = (400,),
        covariance: Literal["diagonal", "full"] = "diagonal",
    ) -> None:
        super().__init__(model)
        if encoder not in ENCODERS or covariance not in ("diagonal", "full"):
            raise ValueError(
                f"encoder={encoder!r} must be one of {', '.join(ENCODERS)}; "
                f"covariance={covariance!r} must be diagonal or full."
            )
        self._site, self._dim, self._data_shape = single_latent(model, "amortized")
        self._full = covariance == "full"
        self.encoder = ENCODERS[encoder](
            math.prod(self._data_shape),
            hidden_dims,
            number_of_parameters(self._dim, self._full),
        )
        head: Any = self.encoder.head
        nn.init.zeros_(head.weight)
        with torch.no_grad():
            head.bias.copy_(initial_row(self._dim, len(head.bias)))
        self.like_model()

    def posterior(self, x: Tensor) -> dist.Distribution:
        """q(z | x), event ``[K]``, for observations ``[B, *data_shape]``."""
        parameters = self.encoder(x.flatten(-len(self._data_shape)))
        if self._full:
            loc, scale_tril = loc_scale_tril(parameters, self._dim)
            return dist.MultivariateNormal(loc, scale_tril=scale_tril)
        return dist.Normal(*loc_scale(parameters)).to_event(1)

    def forward(self, batch: Batch) -> Tensor:
        assert batch.x is not None
        with data_plate(batch):
            return pyro.sample(self._site, self.posterior(batch.x))
