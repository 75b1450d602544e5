"""Free bits: a KL below a threshold costs nothing, so latents do not collapse early."""

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
from pyro.distributions.util import scale_and_mask
from pyro.poutine.trace_struct import Trace
from torch import Tensor
from torch.distributions import kl_divergence

from experiments.inference.checks.sites import sites_of
from experiments.inference.objectives.base import Objective
from experiments.inference.traces import (
    beside_kl,
    in_order,
    kl_of,
    log_density,
    log_likelihood,
    scaled_alike,
    traces,
    within,
)
from ppl_models.batch import Batch
from ppl_models.coordinates import own_density
from ppl_models.sites import is_local


class FreeBits(Objective):
    r"""The negative ELBO with a minimum for every KL: a loss that is not a bound.

    .. math::
        -E_q \log p(x \mid z) + \sum_k \max(\lambda, \overline{\mathrm{KL}}_k)

    k runs over the dimensions of every Gaussian vector latent; any other latent, such as a group
    of a hierarchy, counts as one. The bar is the mean over the batch. With lambda = 0 this is the
    plain bound, even if a KL is estimated at the sample and is negative.

    Args:
        particles: draws per datum.
        free_bits: lambda, 0 or more [nats].

    Raises:
        ValueError: If ``free_bits`` is negative; in use, if a latent is global or has different
            scales in model and guide, or one scale per row.

    References:
        Kingma et al. (2016), inverse autoregressive flow, section on free bits.
    """

    def __init__(self, particles: int = 1, free_bits: float = 0.5) -> None:
        super().__init__(particles)
        if free_bits < 0:
            raise ValueError(f"free_bits={free_bits} must be 0 or more.")
        self.free_bits = free_bits

    def differentiable_loss(self, model: Callable, guide: Callable, batch: Batch) -> Tensor:
        p, q = traces(model, guide, batch, self.num_particles)
        loss = -self.mean(log_likelihood(p))
        # no floor at 0: a KL at the sample may be negative; a compiled graph has no branches
        least = self.free_bits - 1e30 * (self.free_bits <= 0)
        self.sampled_sites = []
        for name, site in q.iter_stochastic_nodes():
            if name not in p.nodes or not is_local(site):
                raise ValueError(
                    f"elbo_free_bits needs a KL per datum, which '{name}' has not: use elbo."
                )
            scale, prior = site["scale"], p.nodes[name]
            by_row = isinstance(scale, Tensor) and scale.numel() > 1
            if by_row or not scaled_alike(site, prior):
                raise ValueError(
                    f"elbo_free_bits needs one scale of '{name}' in model and guide: use elbo."
                )
            if (other := beside_kl(site, prior)) is not None:
                loss = loss + other.sum() / self.num_particles
            mask = site["mask"].unsqueeze(-1) if isinstance(site["mask"], Tensor) else site["mask"]
            kl = scale_and_mask(self._kl(name, p, q), mask=mask)
            rows = kl.numel() // kl.shape[-1] / self.num_particles
            floored = kl.flatten(0, -2).mean(0).clamp(min=least)
            loss = loss + site["scale"] * rows * floored.sum()
        factors: Any = sum(log_density(site).sum() for site in sites_of(q, observed=True))
        return loss + self.mean(factors)

    def _kl(self, name: str, model_trace: Trace, guide_trace: Trace) -> Tensor:
        """KL per datum and dimension, ``[..., B, M]``; M is 1 if it is not a sum."""
        site, prior = guide_trace.nodes[name], model_trace.nodes[name]
        q, p = site["fn"], prior["fn"]
        vectors = _vector_of_normals(q) and _vector_of_normals(p)
        if vectors and in_order(name, model_trace, guide_trace):
            return kl_divergence(q.base_dist, p.base_dist)
        try:
            return kl_of(name, model_trace, guide_trace).unsqueeze(-1)
        except NotImplementedError:
            self.sampled_sites.append(name)
            z = site["value"]  # the sites' own log_prob are scaled, by zero where beta is
            return (within(prior, q.log_prob(z)) - p.log_prob(z)).unsqueeze(-1)


def _vector_of_normals(d: Any) -> bool:
    return (
        isinstance(d, dist.Independent)
        and isinstance(d.base_dist, dist.Normal)
        and (d.event_dim == 1)
        and not own_density(d)
    )
