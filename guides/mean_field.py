"""Classical mean-field variational inference: a diagonal Gaussian of its own for every datum."""

from collections.abc import Iterable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from guides.gaussian import initial_row, loc_scale
from guides.guide import real_latents
from guides.local import LocalTable, PerDatumGuide
from ppl_models.batch import Batch, data_plate

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

    Raises:
        ValueError: If a latent is not free on the real line.

    References:
        Jordan, Ghahramani, Jaakkola & Saul (1999).
    """

    def __init__(
        self, model: nn.Module, size: int = 0, local_lr: float = 0.1, local_steps: int = 500
    ) -> None:
        super().__init__(model, size, local_lr, local_steps)
        self._shapes = real_latents(model, "mean_field")
        self.tables = nn.ModuleDict()
        for name, shape in self._shapes.items():
            *outer, last = shape or (1,)  # a scalar is a vector of one
            row = initial_row(last, 2 * last).repeat(*outer, 1)
            self.tables[name] = LocalTable(size, row.shape, row)
        self.like_model()

    def _tables(self) -> Iterable[tuple[str, Any]]:
        return self.tables.items()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        with data_plate(batch):
            return {
                name: pyro.sample(name, self._posterior(table(batch), self._shapes[name]))
                for name, table in self._tables()
            }

    def _posterior(self, rows: Tensor, shape: torch.Size) -> dist.Distribution:
        loc, scale = (part.reshape(-1, *shape) for part in loc_scale(rows))
        return dist.Normal(loc, scale).to_event(len(shape))
