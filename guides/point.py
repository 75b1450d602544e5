"""A point estimate of every latent: maximum a posteriori."""

from collections.abc import Iterable
from typing import Any

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from guides.guide import real_latents
from guides.local import LocalTable, PerDatumGuide
from ppl_models.batch import Batch, data_plate

__all__ = ["Point"]


class Point(PerDatumGuide):
    r"""A Dirac mass per datum.

    .. math::
        q(z_n \mid x_n) = \delta(z_n - \hat z_n)

    Its objective is log p(x, z), which is no bound on log p(x): with a learned decoder it has no
    optimum, because scaling the decoder up and the latents down raises it without limit.

    Args:
        model: any model with continuous latents.
        size: N, the number of rows.
        local_lr: learning rate of the rows.
        local_steps: steps that fit the rows of a held-out data set.

    Raises:
        ValueError: If a latent is not free on the real line.
    """

    objective = "log_joint"

    def __init__(
        self, model: nn.Module, size: int = 0, local_lr: float = 0.1, local_steps: int = 500
    ) -> None:
        super().__init__(model, size, local_lr, local_steps)
        self.tables = nn.ModuleDict(
            {name: LocalTable(size, shape) for name, shape in real_latents(model, "point").items()}
        )
        self.like_model()

    def _tables(self) -> Iterable[tuple[str, Any]]:
        return self.tables.items()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        with data_plate(batch):
            return {
                name: pyro.sample(name, dist.Delta(table(batch), event_dim=len(table.shape)))
                for name, table in self._tables()
            }
