"""Importance-weighted bounds and their gradients."""

import math
from collections.abc import Callable

from pyro.poutine.trace_struct import Trace
from torch import Tensor

from experiments.inference.objectives.base import Objective
from experiments.inference.traces import log_weights, seen_through_z, traces
from ppl_models.program import Batch

__all__ = ["IWAE", "DReG"]


class IWAE(Objective):
    r"""log of the mean of S importance weights per datum; rises to log p(x) with S.

    .. math::
        E_{z_1, \dots, z_S \sim q} \log \frac1S \sum_{s=1}^S \frac{p(x, z_s)}{q(z_s \mid x)}

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
        \nabla_\phi = \sum_s \Big( \frac{w_s}{\sum_j w_j} \Big)^2
        \frac{\partial \log w_s}{\partial z_s} \frac{\partial z_s}{\partial \phi},
        \quad w_s = \frac{p(x, z_s)}{q(z_s \mid x)}

    The score of q is rewritten through z: q's parameters receive squared normalised weights
    times the gradient by z, p's parameters the plain ones. Unlike those of ``iwae``, the
    gradients of q do not drown in noise as S grows.

    References:
        Tucker, Lawson, Gu & Maddison (2019).
    """

    def __init__(self, particles: int = 5) -> None:
        super().__init__(particles)

    def differentiable_loss(self, model: Callable, guide: Callable, batch: Batch) -> Tensor:
        model_trace, guide_trace = traces(model, guide, batch, self.num_particles)
        log_w = log_weights(model_trace, seen_through_z(guide, guide_trace), batch)
        log_w = log_w.reshape(self.num_particles, -1)
        weights = log_w.detach().softmax(0)
        for _, site in guide_trace.iter_stochastic_nodes():
            if site["value"].requires_grad:
                site["value"].register_hook(_times(weights, site["fn"].event_dim))
        bound = log_w.detach().logsumexp(0) - math.log(self.num_particles)
        surrogate = (weights * (log_w - log_w.detach())).sum(0)  # zero, with the gradient
        return -(bound + surrogate).sum() * (batch.size / len(batch.index))


def _times(weights: Tensor, event_dim: int) -> Callable[[Tensor], Tensor]:
    """What multiplies the gradient of a latent ``[S, B, *event]`` by weights ``[S, B]``."""

    def hook(gradient: Tensor) -> Tensor:
        factor = weights.reshape(gradient.shape[: gradient.ndim - event_dim])
        return gradient * factor.reshape(*factor.shape, *(1,) * event_dim)

    return hook
