"""Pyro's own guides, by name: for models whose latents are not all local."""

from typing import Any

import pyro
import torch
from pyro.infer import autoguide
from torch import nn

from guides.guide import Guide
from ppl_models.program import Batch, data_plate, describe

__all__ = ["AUTOGUIDES", "Auto"]

AUTOGUIDES: dict[str, Any] = {
    "auto_delta": autoguide.AutoDelta,
    "auto_normal": autoguide.AutoNormal,
    "auto_multivariate_normal": autoguide.AutoMultivariateNormal,
    "auto_low_rank": autoguide.AutoLowRankMultivariateNormal,
    "auto_laplace": autoguide.AutoLaplaceApproximation,
    "auto_iaf": autoguide.AutoIAFNormal,
}
"""A point, a diagonal, a full and a low-rank Gaussian, one from the curvature at the mode, and a
flow; each over all latents at once, in unconstrained coordinates."""


class Auto(Guide):
    """A guide of ``pyro.infer.autoguide``; its parameters stay in the module, not in the store.

    Args:
        model: any model.
        name: a key of ``AUTOGUIDES``.
        size: N; it matters where every datum has latents.
        options: of Pyro's constructor.

    Raises:
        ValueError: If the name is unknown; for ``auto_laplace``, if the model is not identified.
    """

    vectorises = False

    def __init__(self, model: nn.Module, name: str, size: int = 1, **options: Any) -> None:
        super().__init__(model)
        if name not in AUTOGUIDES:
            raise ValueError(f"guide '{name}' is unknown; there are {', '.join(AUTOGUIDES)}.")
        if name == "auto_laplace" and not getattr(model, "identified", True):
            raise ValueError(
                "auto_laplace needs a mode with curvature all around: where W may turn there is "
                "none. Build the model with identified=True (--identified)."
            )
        self.name = name
        if name in ("auto_delta", "auto_normal"):  # the others put all latents in one vector
            options["create_plates"] = data_plate
        self.auto = AUTOGUIDES[name](model, **options)
        seen = Batch.of(torch.zeros(size, *describe(model).x))
        self(seen)  # Pyro builds the parameters in the first call; x must be observed in it

    def forward(self, batch: Batch) -> Any:
        with pyro.get_param_store().scope():
            return self.auto(batch)
