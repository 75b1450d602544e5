"""Classical mean-field variational inference: a diagonal Gaussian of its own for every datum."""

from collections.abc import Iterable
from typing import Any

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from guides.gaussian import initial_row, loc_scale
from guides.local import LocalTable, PerDatumGuide
from ppl_models.program import Batch, data_plate, describe

__all__ = ["MeanField"]


class MeanField(PerDatumGuide):
    r"""A diagonal Gaussian per datum; it starts narrow, at the origin.

    .. math::
        q(z_n \mid x_n) = \prod_k \mathcal N(z_{nk}; m_{nk}, s_{nk}^2)

    Args:
        model: any model with continuous latents.
        size: N, the number of rows.
        local_lr: learning rate of the rows.
        local_steps: steps that fit the rows of a held-out data set.

    References:
        Jordan, Ghahramani, Jaakkola & Saul (1999).
    """

    def __init__(
        self, model: nn.Module, size: int = 0, local_lr: float = 0.1, local_steps: int = 500
    ) -> None:
        super().__init__(model, size, local_lr, local_steps)
        self.tables = nn.ModuleDict(
            {
                name: LocalTable(
                    size,
                    (*shape[:-1], 2 * shape[-1]),
                    initial_row(shape[-1], 2 * shape[-1]).repeat(*shape[:-1], 1),
                )
                for name, shape in describe(model).latents.items()
            }
        )
        self.like_model()

    def _tables(self) -> Iterable[tuple[str, Any]]:
        return self.tables.items()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        with data_plate(batch):
            return {
                name: pyro.sample(
                    name, dist.Normal(*loc_scale(table(batch))).to_event(len(table.shape))
                )
                for name, table in self._tables()
            }
