"""Importance-weighted bounds and their gradients."""

import math
from collections.abc import Callable

from pyro.poutine.trace_struct import Trace
from torch import Tensor

from experiments.inference.objectives.base import Objective
from experiments.inference.objectives.through_z import (
    along_draws,
    at_fixed_draws,
    independent_draws,
    is_simple,
    seen_through_z,
)
from experiments.inference.traces import log_weights, traces
from ppl_models.batch import Batch


class IWAE(Objective):
    r"""log of the mean of K importance weights per datum; increases to log p(x) with K.

    .. math::
        E_{z_1, \dots, z_K \sim q} \log \frac1K \sum_{k=1}^K \frac{p(x, z_k)}{q(z_k \mid x)}

    References:
        Burda, Grosse & Salakhutdinov (2016).
    """

    def __init__(self, particles: int = 5) -> None:
        super().__init__(particles)

    def bound(self, model_trace: Trace, guide_trace: Trace, batch: Batch) -> Tensor:
        log_w = log_weights(model_trace, guide_trace, batch)
        per_datum = log_w.reshape(self.num_particles, -1).logsumexp(0)
        bound = per_datum - math.log(self.num_particles)
        return bound.sum() * (batch.size / len(batch.index))


class DReG(Objective):
    r"""The doubly reparametrised gradient of ``iwae``; its value is that bound.

    .. math::
        \nabla_\phi = \sum_k \Big( \frac{w_k}{\sum_j w_j} \Big)^2
        \frac{\partial \log w_k}{\partial z_k} \frac{\partial z_k}{\partial \phi},
        \quad w_k = \frac{p(x, z_k)}{q(z_k \mid x)}

    The score of q is rewritten through z: q's parameters receive squared normalised weights
    times the gradient in z, p's parameters the plain ones. Unlike those of ``iwae``, the
    gradients of q do not become noisier as K grows. Where latents depend on each other, model and
    guide run twice.

    References:
        Tucker, Lawson, Gu & Maddison (2019).
    """

    def __init__(self, particles: int = 5) -> None:
        super().__init__(particles)

    def differentiable_loss(self, model: Callable, guide: Callable, batch: Batch) -> Tensor:
        model_trace, guide_trace = traces(model, guide, batch, self.num_particles)
        if not is_simple(guide, guide_trace, batch):
            return self._of_dependent_latents(model, guide, batch, guide_trace)
        log_w = log_weights(model_trace, seen_through_z(guide_trace), batch)
        log_w = log_w.reshape(self.num_particles, -1)
        weights = log_w.detach().softmax(0)
        for z, event_dim in independent_draws(guide_trace):
            if z.requires_grad:
                z.register_hook(_times(weights, event_dim))
        bound = log_w.detach().logsumexp(0) - math.log(self.num_particles)
        surrogate = (weights * (log_w - log_w.detach())).sum(0)  # zero, with the gradient
        return -(bound + surrogate).sum() * (batch.size / len(batch.index))

    def _of_dependent_latents(
        self, model: Callable, guide: Callable, batch: Batch, guide_trace: Trace
    ) -> Tensor:
        """The same where q is not Gaussian, or its latents depend on each other."""
        p, q, leaves = at_fixed_draws(model, guide, batch, self.num_particles, guide_trace)
        log_p, log_w = log_weights(p, Trace(), batch), log_weights(p, q, batch)
        log_p, log_w = (part.reshape(self.num_particles, -1) for part in (log_p, log_w))
        weights, scale = log_w.detach().softmax(0), batch.size / len(batch.index)
        paths = along_draws(guide_trace, leaves, (weights.square() * log_w).sum() * scale)
        bound = log_w.detach().logsumexp(0) - math.log(self.num_particles)
        return -(bound + (weights * (log_p - log_p.detach())).sum(0)).sum() * scale - paths


def _times(weights: Tensor, event_dim: int) -> Callable[[Tensor], Tensor]:
    """What multiplies the gradient of a latent ``[K, B, *event]`` by weights ``[K, B]``."""

    def hook(gradient: Tensor) -> Tensor:
        factor = weights.reshape(gradient.shape[: gradient.ndim - event_dim])
        return gradient * factor.reshape(*factor.shape, *(1,) * event_dim)

    return hook
