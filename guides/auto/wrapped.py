"""A Pyro autoguide as a ``Guide``: its parameters live in the module, and it takes minibatches."""

import weakref
from contextlib import ExitStack
from typing import Any, Self

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions.torch_transform import TransformModule
from pyro.distributions.util import sum_rightmost
from pyro.infer import autoguide
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn
from torch.distributions import biject_to

from guides.guide import Guide
from guides.latents import check_pyros_coordinates
from ppl_models.batch import Batch, data_plate
from ppl_models.names import unknown
from ppl_models.parameters import are_captured
from ppl_models.sites import describe, evaluating, prior_trace, request

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
"""Guides that treat latents site by site; the others put all latents into one vector."""

WHOLE_MATRIX = ("auto_multivariate_normal", "auto_laplace")
LARGEST_MATRIX = 10_000
"""Maximum number of latent entries for a guide that keeps a whole matrix over them."""


class Auto(Guide):
    """A guide of ``pyro.infer.autoguide`` whose parameters live in the module, not in Pyro's
    store.

    Args:
        model: any model.
        name: a key of ``AUTOGUIDES``.
        size: N, if the model also has per-datum latents; ``for_data(N)`` returns a guide of that
            size.
        start: initial values of the latents.
        options: options of Pyro's constructor.

    Raises:
        ValueError: If the name is unknown, or a latent has no fixed unconstrained coordinates; for
            ``auto_laplace``, if the model is not identified; for ``WHOLE_MATRIX`` guides, if the
            latents have more than ``LARGEST_MATRIX`` entries.
    """

    def __init__(
        self,
        model: nn.Module,
        name: str,
        size: int = 1,
        start: dict[str, Tensor] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(model)
        if name not in AUTOGUIDES:
            raise ValueError(unknown("guide", name, AUTOGUIDES))
        if name == "auto_laplace" and not getattr(model, "identified", True):
            raise ValueError(
                "auto_laplace needs positive curvature in every direction; there is none along "
                "rotations of W. Build the model with identified=True (--identified)."
            )
        check_pyros_coordinates(model, name)
        sites = describe(model)
        self.name, self.local = name, [z for z in sites.latents if z not in sites.of_all_data]
        self.size = max(1, size) if self.local else 1
        self._options = options
        if start is not None:
            options = {**options, "init_loc_fn": autoguide.init_to_value(values=start)}
        if name in BY_SITE:
            options = {**options, "create_plates": data_plate}
        self.auto: Any = None
        self._build(options)

    def _build(self, options: dict[str, Any]) -> None:
        """Run Pyro's guide once on all rows with x observed, which creates its parameters."""
        drawn, latents = prior_trace(self.model, self.size), describe(self.model).latents
        numbers = sum(drawn.nodes[name]["value"].numel() for name in latents)
        if self.name in WHOLE_MATRIX and numbers > LARGEST_MATRIX:
            raise ValueError(
                f"{self.name} would keep a matrix of {numbers} x {numbers} numbers: take "
                "auto_normal or auto_low_rank."
            )
        observed = {
            name: site["value"]
            for name, site in drawn.iter_stochastic_nodes()
            if name not in latents and not site_is_subsample(site)
        }
        with torch.no_grad(), evaluating(self.model), poutine.block():
            self.auto = AUTOGUIDES[self.name](poutine.condition(self.model, observed), **options)
            self.auto(request(self.model, self.size))
        self.auto._model = (self.model,)
        if self.name == "auto_iaf":  # Pyro keeps one of the flow's parameters there, for its dtype
            like = next(self.auto.parameters()).detach().new_zeros(())
            del self.auto._prototype_tensor
            self.auto.register_buffer("_prototype_tensor", like, persistent=False)

    def for_data(self, size: int) -> Self:
        """The guide for a data set of ``size`` rows, if the model has per-datum latents."""
        if not self.local:
            return self
        sibling = type(self).__new__(type(self))
        Auto.__init__(sibling, self.model, self.name, size, **self._options)
        return sibling

    def __getstate__(self) -> dict[str, Any]:
        for part in self.auto.modules():  # flows keep the graph of their last draw
            if isinstance(part, TransformModule):
                part.__dict__.update(_cached_x_y=(None, None), _cached_log_scale=None)
        return self.__dict__.copy()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result = super().__call__(*args, **kwargs)
        if are_captured():
            for parameter in self.parameters():  # Pyro drops this mark around its own modules
                parameter.unconstrained = weakref.ref(parameter)  # type: ignore[attr-defined]
        return result

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        if self.local and batch.size != self.size:
            raise ValueError(
                f"this guide has latents for {self.size} rows, the batch is from data of "
                f"{batch.size}; guide.for_data({batch.size}) returns a guide for these data."
            )
        # they lie in the module (module_local_params), whose own call shows them
        with poutine.block(hide_types=["param"]):
            if self.local and self.name not in BY_SITE:
                return self._of_one_vector(batch)
            return self.auto(batch)

    def _of_one_vector(self, batch: Batch) -> dict[str, Tensor]:
        """Like Pyro's method, but for the local latents of this batch's rows only."""
        vector = self.auto.sample_latent(batch)
        plates = {"data": data_plate(batch)} | {
            name: pyro.plate(name, frame.full_size, dim=frame.dim, subsample_size=frame.size)
            for name, frame in self.auto._prototype_frames.items()
            if name != "data"
        }
        result = {}
        for site, u in self.auto._unpack_latent(vector):
            name, event_dim = site["name"], site["fn"].event_dim
            transform = biject_to(site["fn"].support)
            z = transform(u)
            volume = transform.inv.log_abs_det_jacobian(z, u)
            volume = sum_rightmost(volume, volume.ndim - z.ndim + event_dim)
            if name in self.local:
                z = z.index_select(-1 - event_dim, batch.index)
                volume = volume.index_select(-1, batch.index)
            with ExitStack() as stack:
                for frame in site["cond_indep_stack"]:
                    stack.enter_context(plates[frame.name])
                result[name] = pyro.sample(name, dist.Delta(z, volume, event_dim))
        return result
