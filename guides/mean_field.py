"""Classical mean-field variational inference: one diagonal Gaussian per datum."""

from typing import Any

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from guides.gaussian import initial_row, loc_scale
from guides.latents import ByName, latents_of
from guides.local import LocalTable, PerDatumGuide
from ppl_models.batch import Batch, data_plate


class MeanField(PerDatumGuide):
    r"""A diagonal Gaussian per datum, initially narrow and at the origin.

    .. math::
        q(z_n \mid x_n) = \prod_k \mathcal N(z_{nk}; m_{nk}, s_{nk}^2)

    Under a prior with constrained support, the Gaussian is defined in unconstrained coordinates
    and mapped to the support.

    Args:
        model: any model with continuous latents.
        size: N, the number of rows.
        local_lr: learning rate of the rows of q.
        local_steps: number of steps that fit the rows of a held-out data set.

    Raises:
        ValueError: If a latent has no fixed unconstrained coordinates; if ``size`` is negative, or
            ``local_lr`` or ``local_steps`` is not positive.

    References:
        Jordan, Ghahramani, Jaakkola & Saul (1999); Kucukelbir, Tran, Ranganath, Gelman & Blei
        (2017), unconstrained coordinates.
    """

    def __init__(
        self, model: nn.Module, size: int = 0, local_lr: float = 0.1, local_steps: int = 500
    ) -> None:
        super().__init__(model, size, local_lr, local_steps)
        latents = latents_of(model, "mean_field")
        self.coordinates: Any = ByName(latents)
        tables = {}
        for name, latent in latents.items():
            *outer, last = latent.shape or (1,)  # a scalar counts as a vector of length one
            row = initial_row(last, 2 * last).repeat(*outer, 1)
            tables[name] = LocalTable(size, row)
        self.tables = ByName(tables)
        self.like_model()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        z = {}
        with data_plate(batch):
            for name, latent in self.coordinates.items():
                rows = self.tables[name](batch)
                loc, scale = (part.reshape(-1, *latent.shape) for part in loc_scale(rows))
                q = dist.Normal(loc, scale).to_event(len(latent.shape))
                z[name] = pyro.sample(name, latent.push(q))
        return z
