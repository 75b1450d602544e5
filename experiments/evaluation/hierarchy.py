"""The groups of a hierarchy: their KL by channel, and the effect of each on the image."""

from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from torch import Tensor, nn
from torch.distributions import kl_divergence
from torch.distributions.transforms import ComposeTransform

from experiments.data import Data
from experiments.evaluation.bounds import encode
from experiments.evaluation.sampling.reconstruction import row_means
from experiments.inference.checks.sites import data_dim
from experiments.inference.handlers import Temperature
from experiments.inference.traces import kl_of, traces
from ppl_models.batch import Batch
from ppl_models.nvae.flows import FlowPair
from ppl_models.random_numbers import seeded
from ppl_models.sites import describe, observation, prior_trace, request_alike

ACTIVE_CHANNEL = 0.1
"""A channel is active if its mean KL, summed over its map, exceeds this [nats]."""


def _channel_kl(name: str, p: Trace, q: Trace) -> Tensor:
    """KL(q || p) of one group summed over its map, ``[B, L]``; at the sample with NVAE's flows.

    If the KL has no closed form per channel, as for a mixture: the whole group's, ``[B, 1]``.
    """
    fn, prior, z = q.nodes[name]["fn"], p.nodes[name]["fn"], q.nodes[name]["value"]
    flows = getattr(fn, "transforms", ())
    if flows and all(isinstance(flow, FlowPair) for flow in flows):
        before = ComposeTransform(flows).inv(z)
        log_q = fn.base_dist.base_dist.log_prob(before)  # the flows only shift: volume-preserving
        return (log_q - prior.base_dist.log_prob(z)).sum((-2, -1))
    try:
        kl_of(name, p, q)  # raises if there is no closed form
        return kl_divergence(fn.base_dist, prior.base_dist).sum((-2, -1))
    except NotImplementedError:
        return (fn.log_prob(z) - prior.log_prob(z)).unsqueeze(-1)


@torch.no_grad()
def channel_kls(model: nn.Module, guide: nn.Module, data: Data, rows: int = 100) -> list[Tensor]:
    """Mean KL of every group's channels, ``[L]`` each, coarse to fine [nats].

    A group whose KL has no closed form, such as a mixture, has its mean KL, ``[1]``. ``rows``
    images are evaluated at a time; p is in evaluation mode.
    """
    totals: dict[str, Tensor] = {}
    for batch in data.batches(rows):
        with pyro.validation_enabled(False):
            p, q = traces(model, guide, batch)
        drawn = dict(q.iter_stochastic_nodes())
        for name in filter(drawn.__contains__, p.nodes):  # q may draw in another order
            kl = _channel_kl(name, p, q).double().sum(0)
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
    model: nn.Module,
    guide: nn.Module,
    batch: Batch,
    draws: int = 8,
    seed: int = 0,
    temperature: float = 1.0,
) -> dict[str, Tensor]:
    """E[x | z] of one image: coarser groups at q's means, the others drawn from their priors.

    Draws are made at the ``temperature``. What the draws of a group share is determined by the
    groups above it.

    Returns:
        ``[draws, *event_shape]`` for every latent, coarse to fine: that latent and all finer ones
        are drawn.
    """
    latents, nodes = encode(guide, batch, model), prior_trace(model).nodes
    order = [name for name in describe(model).latents if name in latents]
    repeated = {name: _copies(latents[name], nodes[name], draws) for name in order}
    unobserved, site = request_alike(model, draws, batch.given), observation(model)
    drawn = Temperature(temperature, tuple(describe(model).observed))
    shown = {}
    with seeded(seed), drawn:
        for name in reversed(order):
            del repeated[name]
            conditioned = poutine.condition(model, data=repeated)
            trace = poutine.trace(conditioned).get_trace(unobserved)
            shown[name] = row_means(trace.nodes[site])
    return dict(reversed(shown.items()))


def _copies(z: Tensor, site: Any, draws: int) -> Tensor:
    """One row of a latent, repeated along the dimension of the data."""
    dim = data_dim(site)
    assert dim is not None
    shape = list(z.shape)
    shape[dim - site["fn"].event_dim] = draws
    return z.expand(shape)
