"""The groups of a hierarchy: their KL by channel, and the effect of each on the image."""

from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn
from torch.distributions import kl_divergence
from torch.distributions.transforms import ComposeTransform

from experiments.data import Data
from experiments.evaluation.bounds import encode
from experiments.evaluation.sampling.reconstruction import row_means
from experiments.inference.traces import traces
from guides.hierarchies.mixture import ConditionalMixture
from ppl_models.batch import Batch
from ppl_models.random_numbers import seeded
from ppl_models.sites import observation, request_alike

ACTIVE_CHANNEL = 0.1
"""A channel is active if its mean KL, summed over its map, exceeds this [nats]."""


def _channel_kl(q: Any, p: Any, z: Tensor) -> Tensor:
    """KL(q || p) of one group summed over its map, ``[B, L]``; with flows at the sample.

    Of a mixture, whose channels depend on each other, the group's own, ``[B, 1]``.
    """
    prior = getattr(p, "base_dist", p)
    if isinstance(q, ConditionalMixture):
        return (q.log_prob(z) - p.log_prob(z)).unsqueeze(-1)
    if not hasattr(q, "transforms"):
        return kl_divergence(getattr(q, "base_dist", q), prior).sum((-2, -1))
    before = ComposeTransform(q.transforms).inv(z)
    log_q = q.base_dist.base_dist.log_prob(before)  # the flows shift: no volume changes
    return (log_q - prior.log_prob(z)).sum((-2, -1))


@torch.no_grad()
def channel_kls(model: nn.Module, guide: nn.Module, data: Data, rows: int = 100) -> list[Tensor]:
    """Mean KL of every group's channels, ``[L]`` each, coarse to fine [nats].

    q is Gaussian, has NVAE's flows, or is a mixture; of a mixture, the mean KL of every group,
    ``[1]`` each. ``rows`` images are evaluated at a time; p is in evaluation mode.
    """
    totals: dict[str, Tensor] = {}
    for batch in data.batches(rows):
        with pyro.validation_enabled(False):
            p, q = traces(model, guide, batch)
        for name, site in q.iter_stochastic_nodes():
            kl = _channel_kl(site["fn"], p.nodes[name]["fn"], site["value"]).double().sum(0)
            totals[name] = totals.get(name, torch.zeros_like(kl)) + kl
    return [total / len(data) for total in totals.values()]


def group_rows(kls: list[Tensor], shapes: list[tuple[int, int, int]]) -> list[dict[str, object]]:
    """The table of groups: shape, KL, active channels."""
    return [
        {
            "group": i,
            "shape": list(shape),
            "kl": kl.sum().item(),
            "active channels": int((kl > ACTIVE_CHANNEL).sum()) if len(kl) == shape[0] else None,
        }
        for i, (kl, shape) in enumerate(zip(kls, shapes, strict=True))
    ]


@torch.no_grad()
def resampled_groups(
    model: nn.Module, guide: nn.Module, batch: Batch, draws: int = 8, seed: int = 0
) -> dict[str, Tensor]:
    """E[x | z] of one image: coarser groups at q's means, the others drawn from their priors.

    What the draws of a group have in common is determined by the groups above it.

    Returns:
        ``[draws, *event_shape]`` for every latent, coarse to fine: that latent and all finer ones
        are drawn.
    """
    latents = encode(guide, batch, model)
    repeated = {name: z.expand(draws, *z.shape[1:]) for name, z in latents.items()}
    unobserved, site = request_alike(model, draws, batch.given), observation(model)
    shown = {}
    with seeded(seed):
        for name in reversed(latents):
            del repeated[name]
            conditioned = poutine.condition(model, data=repeated)
            trace = poutine.trace(conditioned).get_trace(unobserved)
            shown[name] = row_means(trace.nodes[site])
    return dict(reversed(shown.items()))
