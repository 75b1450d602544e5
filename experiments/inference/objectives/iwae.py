"""Importance-weighted bounds, Rényi's among them, and their gradients."""

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
        log_w = log_weights(model_trace, guide_trace, batch).reshape(self.num_particles, -1)
        bound = log_w.logsumexp(0) - math.log(self.num_particles)
        return bound.sum() * (batch.size / len(batch.index))


class Renyi(Objective):
    r"""log of a power mean of K importance weights per datum.

    .. math::
        \frac{1}{1 - \alpha} \log \frac1K \sum_k w_k^{1 - \alpha}, \quad
        w_k = \frac{p(x, z_k)}{q(z_k \mid x)}, \ z_k \sim q

    alpha = 1 is ``elbo``, 0 is ``iwae``; above 1 the smallest weights dominate.

    Args:
        particles: K, draws per datum.
        alpha: 0 or more.

    Raises:
        ValueError: If ``alpha`` is negative (the power mean is then no lower bound) or not finite.

    References:
        Li & Turner (2016).
    """

    def __init__(self, particles: int = 5, alpha: float = 0.5) -> None:
        super().__init__(particles)
        if not 0 <= alpha < math.inf:
            raise ValueError(f"alpha={alpha} must be 0 or more, and finite.")
        self.alpha = alpha

    def bound(self, model_trace: Trace, guide_trace: Trace, batch: Batch) -> Tensor:
        log_w = log_weights(model_trace, guide_trace, batch).reshape(self.num_particles, -1)
        scale = batch.size / len(batch.index)
        if self.alpha == 1:
            return log_w.mean(0).sum() * scale
        power = 1 - self.alpha
        # in float64: near alpha = 1, the log of a mean near one is divided by a power near zero
        log_mean = (power * log_w.double()).logsumexp(0) - math.log(self.num_particles)
        return (log_mean.sum() / power * scale).to(log_w)


class DReG(IWAE):
    r"""The doubly reparametrised gradient of ``iwae``; its value is that bound.

    .. math::
        \nabla_\phi = \sum_k \Big( \frac{w_k}{\sum_j w_j} \Big)^2
        \frac{\partial \log w_k}{\partial z_k} \frac{\partial z_k}{\partial \phi},
        \quad w_k = \frac{p(x, z_k)}{q(z_k \mid x)}

    The score of q is rewritten through z: q's parameters receive squared normalised weights
    times the gradient in z, p's parameters the plain ones. Unlike those of ``iwae``, the
    gradients of q do not become noisier as K grows. Where latents depend on each other or q is not
    Gaussian, model and guide run twice, and a guide whose second q differs (dropout, other noise)
    is refused.

    References:
        Tucker, Lawson, Gu & Maddison (2019).
    """

    def differentiable_loss(self, model: Callable, guide: Callable, batch: Batch) -> Tensor:
        model_trace, guide_trace = traces(model, guide, batch, self.num_particles)
        if is_simple(guide, guide_trace, batch):
            seen = seen_through_z(guide_trace)
            log_w = log_weights(model_trace, seen, batch).reshape(self.num_particles, -1)
            weights = log_w.detach().softmax(0)
            for z, event_dim in independent_draws(guide_trace):
                if z.requires_grad:
                    z.register_hook(_times(weights, event_dim))
            return self._loss(log_w, weights, log_w, batch)
        p, q, leaves = at_fixed_draws(model, guide, batch, self.num_particles, guide_trace)
        log_w = log_weights(p, q, batch).reshape(self.num_particles, -1)
        log_p = log_weights(p, Trace(), batch).reshape(self.num_particles, -1)
        weights, scale = log_w.detach().softmax(0), batch.size / len(batch.index)
        paths = along_draws(guide_trace, leaves, (weights.square() * log_w).sum() * scale)
        return self._loss(log_w, weights, log_p, batch) - paths

    def _loss(self, log_w: Tensor, weights: Tensor, terms: Tensor, batch: Batch) -> Tensor:
        """Minus the bound, with the gradient of the particles' weighted ``terms``, ``[K, B]``."""
        bound = log_w.detach().logsumexp(0) - math.log(self.num_particles)
        surrogate = (weights * (terms - terms.detach())).sum(0)  # zero, with the gradient
        return -(bound + surrogate).sum() * (batch.size / len(batch.index))


def _times(weights: Tensor, event_dim: int) -> Callable[[Tensor], Tensor]:
    """What multiplies the gradient of a latent ``[K, B, *event]`` by weights ``[K, B]``."""

    def hook(gradient: Tensor) -> Tensor:
        plates = gradient.shape[: gradient.ndim - event_dim]
        return gradient * weights.reshape(*plates, *(1,) * event_dim)

    return hook
