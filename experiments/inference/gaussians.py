"""Closed forms of Gaussians that torch and Pyro lack."""

from typing import Any

import pyro.distributions as dist
from torch import Tensor, distributions
from torch.distributions.kl import register_kl

from guides.coordinates import Pushforward
from ppl_models.coordinates import family, own_density


@register_kl(distributions.MultivariateNormal, distributions.Independent)
def _kl_multivariate_independent(
    q: distributions.MultivariateNormal, p: distributions.Independent
) -> Tensor:
    if not isinstance(p.base_dist, distributions.Normal) or p.reinterpreted_batch_ndims != 1:
        raise NotImplementedError
    scaled = q.scale_tril / p.base_dist.scale.unsqueeze(-1)
    difference = (q.loc - p.base_dist.loc) / p.base_dist.scale
    log_det = scaled.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    trace = scaled.square().sum((-2, -1))
    return 0.5 * (trace + difference.square().sum(-1) - difference.shape[-1]) - log_det


def detached(q: Any) -> Any:
    """The same Gaussian (or point mass), its parameters constants; likewise in coordinates.

    Raises:
        ValueError: At any other distribution.
    """
    if own_density(q):
        raise ValueError(f"stl needs a Gaussian guide, not {family(q)}.")
    if isinstance(q, dist.Independent):
        return dist.Independent(detached(q.base_dist), q.reinterpreted_batch_ndims)
    if isinstance(q, dist.Normal):
        return dist.Normal(q.loc.detach(), q.scale.detach())
    if isinstance(q, dist.MultivariateNormal):
        return dist.MultivariateNormal(q.loc.detach(), scale_tril=q.scale_tril.detach())
    if isinstance(q, Pushforward) and q.has_fixed_support:
        return Pushforward(detached(q.base_dist), q.transforms)
    if isinstance(q, dist.Delta) and not q.log_density.requires_grad:
        return dist.Delta(q.v.detach(), q.log_density, q.event_dim)
    raise ValueError(f"stl needs a Gaussian guide, not {type(q).__name__}.")
