"""Pyro's own guides, by name: for models whose latents are not all local."""

from typing import Any

import pyro
import torch
from pyro.infer import autoguide
from pyro.poutine.util import site_is_subsample
from torch import nn

from guides.guide import Guide
from ppl_models.batch import Batch, data_plate
from ppl_models.names import unknown
from ppl_models.sites import describe, prior_trace

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


BY_SITE = ("auto_delta", "auto_normal")
"""Site by site; the others put all latents into one vector."""


def local(model: nn.Module) -> list[str]:
    """The latents of every datum."""
    return [
        name
        for name, site in prior_trace(model).iter_stochastic_nodes()
        if name != "x"
        and any(frame.name == "data" for frame in site["cond_indep_stack"])
        and not site_is_subsample(site)
    ]


class Auto(Guide):
    """A guide of ``pyro.infer.autoguide``; its parameters stay in the module, not in the store.

    Args:
        model: any model.
        name: a key of ``AUTOGUIDES``.
        size: N, where every datum has latents.
        start: values of the latents that it begins at.
        options: of Pyro's constructor.

    Raises:
        ValueError: If the name is unknown, or does not take latents of every datum; for
            ``auto_laplace``, if the model is not identified.
    """

    vectorises = False

    def __init__(
        self,
        model: nn.Module,
        name: str,
        size: int = 1,
        start: dict[str, torch.Tensor] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(model)
        if name not in AUTOGUIDES:
            raise ValueError(unknown("guide", name, AUTOGUIDES))
        if name == "auto_laplace" and not getattr(model, "identified", True):
            raise ValueError(
                "auto_laplace needs a mode with curvature all around: where W may turn there is "
                "none. Build the model with identified=True (--identified)."
            )
        if name not in BY_SITE and any(local(model)):
            raise ValueError(
                f"{name} puts all latents into one vector, for which a batch's rows are not told "
                f"apart; {', '.join(BY_SITE)} take latents of every datum."
            )
        self.name = name
        if start is not None:
            options["init_loc_fn"] = autoguide.init_to_value(values=start)
        if name in BY_SITE:
            options["create_plates"] = data_plate
        self.auto = AUTOGUIDES[name](model, **options)
        seen = Batch.of(torch.zeros(size, *describe(model).x))
        self(seen)  # Pyro builds the parameters in the first call; x must be observed in it

    def forward(self, batch: Batch) -> Any:
        with pyro.get_param_store().scope():
            return self.auto(batch)
