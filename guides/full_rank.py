"""Classical variational inference with correlations: a full Gaussian for every datum."""

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from guides.gaussian import initial_row, loc_scale_tril, number_of_parameters
from guides.latents import vector_latent
from guides.local import LocalTable, PerDatumGuide
from ppl_models.batch import Batch, data_plate


class FullRank(PerDatumGuide):
    r"""A Gaussian with a Cholesky factor per datum, initially narrow and at the origin.

    .. math::
        q(z_n \mid x_n) = \mathcal N(z_n; m_n, L_n L_n^\top)

    Under a prior with constrained support, the Gaussian is defined in unconstrained coordinates
    and mapped to the support.

    Args:
        model: a model with one vector latent.
        size: N, the number of rows.
        local_lr: learning rate of the rows of q.
        local_steps: number of steps that fit the rows of a held-out data set.

    Raises:
        ValueError: If the model has anything but one vector latent with fixed coordinates; if
            ``size`` is negative, or ``local_lr`` or ``local_steps`` is not positive.
    """

    def __init__(
        self, model: nn.Module, size: int = 0, local_lr: float = 0.1, local_steps: int = 500
    ) -> None:
        super().__init__(model, size, local_lr, local_steps)
        self._site, self.coordinates = vector_latent(model, "full_rank")
        (self._dim,) = self.coordinates.shape
        numbers = number_of_parameters(self._dim, full=True)
        self.table = LocalTable(size, initial_row(self._dim, numbers))
        self.like_model()

    def forward(self, batch: Batch) -> Tensor:
        with data_plate(batch):
            loc, scale_tril = loc_scale_tril(self.table(batch), self._dim)
            q = dist.MultivariateNormal(loc, scale_tril=scale_tril)
            return pyro.sample(self._site, self.coordinates.push(q))
