"""Active units, and the KL of the aggregate posterior from the prior, over a data set.

The aggregate posterior is q(z) = 1/N sum_n q(z | x_n). The mean rate is the
information of z about n plus the distance of q(z) from the prior,

    1/N sum_n KL(q(z | x_n) || p(z)) = I(z; n) + KL(q(z) || p(z)),

so draws from the prior decode to likely images only if the second part is small (Hoffman & Johnson
2016). I(z; n) is at most log N: if the posteriors of N images do not overlap at all, the second
part is the rate minus log N.
"""

import math
from typing import Any

import torch
from pyro import poutine
from torch import Tensor, nn

from experiments.data import Data
from experiments.evaluation.bounds import guide_means, mean_and_error
from experiments.evaluation.sampling.coordinates import ToCoordinates
from experiments.evaluation.shared_draws import CACHED_NUMBERS
from experiments.inference.checks.index_reads import reads_index
from experiments.inference.density import density
from experiments.inference.frozen import evaluated
from guides.point import Point
from guides.prior import Prior
from ppl_models.batch import Batch
from ppl_models.coordinates import coordinates, is_free, is_point
from ppl_models.observing import inner_plates
from ppl_models.random_numbers import seeded
from ppl_models.sites import describe, prior_trace

ACTIVE = 0.01
"""A latent is active if the variance of its posterior mean exceeds this (Burda et al. 2016)."""

DRAWS = 1000
"""Number of draws from q(z) for the KL."""


def active_units(means: Tensor) -> int:
    """Number of latents whose means E[z | x_n], ``[N, M]``, have a variance above ``ACTIVE``."""
    return int((means.var(0) > ACTIVE).sum())


def aggregate_log_prob(posteriors: list[Any], z: Tensor) -> Tensor:
    """log q(z) of z ``[K, M]``, the mixture of q(z | x) of all rows, in chunks, ``[K]`` [nats]."""
    parts = []
    for q in posteriors:
        split = z.split(max(1, CACHED_NUMBERS // (q.batch_shape.numel() * z[0].numel())))
        parts.append(torch.cat([q.log_prob(piece.unsqueeze(1)).logsumexp(1) for piece in split]))
    rows = sum(q.batch_shape.numel() for q in posteriors)
    return torch.stack(parts).logsumexp(0) - math.log(rows)


def _means(model: nn.Module, guide: nn.Module, name: str, batch: Batch, free: bool) -> Tensor:
    """The mean of q, in the coordinates of the prior if z is not ``free``, ``[B, M]``."""
    means = guide_means(guide, batch)
    if free:
        return means[name].reshape(len(batch.index), -1)
    with ToCoordinates([name]) as reader:
        poutine.condition(model, data=means)(batch)
    return reader.found[name].reshape(len(batch.index), -1)


@evaluated
@torch.no_grad()
def aggregate_figures(
    model: nn.Module, guide: nn.Module, data: Data, seed: int = 0
) -> dict[str, Any]:
    """Active units and the aggregate posterior's KL for a model with one latent; empty if
    undefined, as for the prior and for points.

    The global random state is not changed.
    """
    latents = describe(model).latents
    if isinstance(guide, Prior | Point) or len(latents) != 1:
        return {}
    if reads_index(model) or data.given:  # the prior may depend on the datum
        return {}
    (name,) = latents
    data = data.fixed().like(model)
    prior = prior_trace(model).nodes[name]["fn"]
    try:
        coordinates(prior)
    except NotImplementedError:  # as of discrete values, whose mean is none of them
        return {}
    with seeded(seed):
        sites = [poutine.trace(guide).get_trace(batch).nodes[name] for batch in data.batches(1000)]
        if any(inner_plates(site) or is_point(site["fn"]) for site in sites):
            return {}
        means = torch.cat(
            [_means(model, guide, name, batch, is_free(prior)) for batch in data.batches(1000)]
        )
        every = torch.cat([site["value"] for site in sites])
        z = every[torch.randperm(len(every), device=every.device)[:DRAWS]]
        log_p = density(model, Batch.draw(len(z), z.device), [name])({name: z})  # draws x
    log_q = aggregate_log_prob([site["fn"] for site in sites], z)
    kl, error = mean_and_error(log_q - log_p)
    return {"active_units": active_units(means), "aggregate_kl": kl, "aggregate_kl_se": error}
