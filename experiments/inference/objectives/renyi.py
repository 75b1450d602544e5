"""Rényi's bounds: between the ELBO and the importance-weighted bound, and below."""

import math

from pyro.poutine.trace_struct import Trace
from torch import Tensor

from experiments.inference.objectives.base import Objective
from experiments.inference.traces import log_weights
from ppl_models.batch import Batch


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
        ValueError: If ``alpha`` is negative: the power mean is then no lower bound.

    References:
        Li & Turner (2016).
    """

    def __init__(self, particles: int = 5, alpha: float = 0.5) -> None:
        super().__init__(particles)
        if not 0 <= alpha < math.inf:
            raise ValueError(f"alpha={alpha} must be 0 or more.")
        self.alpha = alpha

    def bound(self, model_trace: Trace, guide_trace: Trace, batch: Batch) -> Tensor:
        log_w = log_weights(model_trace, guide_trace, batch).reshape(self.num_particles, -1)
        scale = batch.size / len(batch.index)
        if self.alpha == 1:
            return log_w.mean(0).sum() * scale
        power = 1 - self.alpha
        log_mean = (power * log_w).logsumexp(0) - math.log(self.num_particles)
        return log_mean.sum() / power * scale
