"""A point estimate of every latent: maximum a posteriori."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from guides.latents import ByName, latents_of
from guides.local import LocalTable, PerDatumGuide
from ppl_models.batch import Batch, data_plate


class Point(PerDatumGuide):
    r"""A Dirac mass per datum.

    .. math::
        q(z_n \mid x_n) = \delta(z_n - \hat z_n)

    Its objective is log p(x, z), which is not a bound on log p(x). With a learned decoder it has
    no optimum, because scaling the decoder up and the latents down raises it without limit.

    The point is optimised in unconstrained coordinates, but the density is that of z itself,
    without the Jacobian: it is the mode of p(z, x) in z, as in Pyro's ``AutoDelta``. There is no
    mode if that density is unbounded at the boundary of the support, as under a Gamma prior with a
    shape below 1.

    Args:
        model: any model with continuous latents.
        size: N, the number of rows.
        local_lr: learning rate of the rows of q.
        local_steps: number of steps that fit the rows of a held-out data set.

    Raises:
        ValueError: If a latent has no fixed unconstrained coordinates; if ``size`` is negative, or
            ``local_lr`` or ``local_steps`` is not positive.
    """

    objective = "log_joint"

    def __init__(
        self, model: nn.Module, size: int = 0, local_lr: float = 0.1, local_steps: int = 500
    ) -> None:
        super().__init__(model, size, local_lr, local_steps)
        latents = latents_of(model, "point")
        self.coordinates: Any = ByName(latents)
        tables = {}
        for name, latent in latents.items():
            tables[name] = LocalTable(size, torch.zeros(latent.shape))
        self.tables = ByName(tables)
        self.like_model()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        z = {}
        with data_plate(batch):
            for name, latent in self.coordinates.items():
                point = latent.at(self.tables[name](batch))
                z[name] = pyro.sample(name, dist.Delta(point, event_dim=latent.event_dim))
        return z
