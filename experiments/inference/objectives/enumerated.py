"""The ELBO with discrete latents summed out, of the model and of the guide."""

import re
from collections.abc import Callable

import torch
from pyro.infer import TraceEnum_ELBO
from torch import Tensor

from experiments.errors import said_by
from experiments.inference.checks.pair_check import check_once
from experiments.inference.checks.particles import takes_particles
from experiments.inference.checks.sites import name_of
from experiments.inference.objectives.elbo import ELBO
from experiments.inference.objectives.pyro_elbos import like_parameters
from ppl_models.batch import Batch
from ppl_models.parameters import own_parameters


class EnumeratedELBO(ELBO):
    r"""The evidence lower bound, discrete latents y summed out: Pyro's ``TraceEnum_ELBO``.

    .. math::
        E_{q(z \mid x)} \Big[ \log \sum_y p(x, y, z) - \log q(z \mid x) \Big]

    That is ``elbo``, which sums out what the model marks, as every objective here does. Where the
    guide samples y and marks it, the expectation under q(y | x) is a sum, too,

    .. math::
        \sum_y q(y \mid x)\, E_{q(z \mid x, y)} [\log p(x, y, z) - \log q(y, z \mid x)],

    and Pyro computes it, eagerly.

    References:
        Obermeyer et al. (2019), tensor variable elimination; Kingma et al. (2014), the sum over
        q(y | x) for rows without a label.
    """

    def differentiable_loss(self, model: Callable, guide: Callable, batch: Batch) -> Tensor:
        depth, _, enumerated = check_once(model, guide, batch, particles=self.num_particles)
        if not enumerated:
            return super().differentiable_loss(model, guide, batch)
        together = self.num_particles > 1 and takes_particles(model)
        pyros = TraceEnum_ELBO(
            num_particles=self.num_particles,
            max_plate_nesting=depth,
            vectorize_particles=together,
        )
        with own_parameters(model, guide):
            try:
                if torch.is_grad_enabled():
                    return pyros.differentiable_loss(model, guide, batch)
                return like_parameters(pyros.loss(model, guide, batch), model, guide)
            except RuntimeError as error:
                if not re.search("size|shape|dimension", str(error).lower()):
                    raise
                raise ValueError(
                    f"{name_of(guide)}, or its model, does not take all values of a summed latent "
                    "at once, in a dimension left of all others: broadcast what is joined with it "
                    f"({said_by(error)})."
                ) from error

    def why_eager(self, model: Callable, guide: Callable, batch: Batch) -> str | None:
        checked = check_once(model, guide, batch, particles=self.num_particles)
        return "Pyro sums over what the guide samples" if checked.enumerated else None
