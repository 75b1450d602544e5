"""Bounds on log p(x), image by image, for any pair."""

import copy
import math
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from experiments.data import Data
from experiments.inference.handlers import Mean
from experiments.inference.objectives import log_weights, traces
from experiments.runs.errors import UsageError
from guides.prior import Prior
from ppl_models.program import Batch

__all__ = ["encode", "likelihood_at", "mean_and_error", "per_image", "reconstruct"]


def likelihood_at(model: nn.Module, latents: dict[str, Tensor], batch: Batch) -> Any:
    """p(x | z) at given latents: the model is run with them in place of draws."""
    conditioned = poutine.condition(model, data=latents)
    unobserved = batch._replace(x=None)
    return poutine.trace(conditioned).get_trace(unobserved).nodes["x"]["fn"]


def guide_means(guide: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """The mean of q for every latent; of a hierarchy, level by level."""
    with Mean():
        trace = poutine.trace(guide).get_trace(batch)
    return {
        name: site["value"]
        for name, site in trace.iter_stochastic_nodes()
        if not poutine.util.site_is_subsample(site)
    }


def _importance_means(
    pair: tuple[poutine.Trace, poutine.Trace], log_w: Tensor
) -> dict[str, Tensor]:
    """Self-normalised importance means of the latents over the particles."""
    weights = log_w.softmax(0)
    means = {}
    for name, site in pair[1].iter_stochastic_nodes():
        z = site["value"].reshape(*log_w.shape, *site["fn"].event_shape)
        means[name] = (weights.reshape(*log_w.shape, *(1,) * (z.ndim - 2)) * z).sum(0)
    return means


def particles_at_a_time(batch_rows: int, numbers: int, memory: float) -> int:
    """How many particles of so many rows fit into ``memory`` GiB, about eight copies of each.

    Raises:
        UsageError: If not even one does.
    """
    fits = int(memory * 2**30 / (8 * 8 * numbers * batch_rows))
    if fits < 1:
        raise UsageError(f"--memory {memory} GiB is too small for one image of {numbers} numbers.")
    return fits


@torch.no_grad()
def per_image(
    model: Any, guide: nn.Module, data: Data, particles: int = 1, memory: float = 1.0
) -> dict[str, Tensor]:
    """What is measured on every image, ``[N]`` each.

    Args:
        model: p, in evaluation mode.
        guide: q; of a per-datum guide, the one fitted to these data.
        data: pixels that are the same at every visit.
        particles: S, draws of q per image.
        memory: GiB for intermediate values.

    Returns:
        ``elbo`` (the mean log-weight) and ``iw_bound`` (the log of the mean weight) [nats],
        ``effective_sample_size`` of the weights in [1, S], ``squared_error`` of the
        reconstruction from the mean of q, and ``log_evidence`` [nats] if the model has a
        ``marginal``.
    """
    rows = max(1, min(2000, particles_at_a_time(1, data.data_dim, memory)))
    chunks: dict[str, list[Tensor]] = {}
    with pyro.validation_enabled(False):
        for batch in data.batches(rows):
            for name, values in _chunk(model, guide, batch, particles, memory).items():
                chunks.setdefault(name, []).append(values)
    return {name: torch.cat(values) for name, values in chunks.items()}


def _chunk(
    model: Any, guide: nn.Module, batch: Batch, particles: int, memory: float
) -> dict[str, Tensor]:
    assert batch.x is not None
    at_a_time = particles_at_a_time(len(batch.x), batch.x[0].numel(), memory)
    log_ws: list[Tensor] = []
    parts: list[tuple[Tensor, dict[str, Tensor]]] = []
    for start in range(0, particles, at_a_time):
        count = min(at_a_time, particles - start)
        pair = traces(model, guide, batch, count)
        log_ws.append(log_weights(*pair, batch).reshape(count, -1))
        if isinstance(guide, Prior):
            parts.append((log_ws[-1].logsumexp(0), _importance_means(pair, log_ws[-1])))
    log_w = torch.cat(log_ws)
    latents = _merge(parts) if parts else guide_means(guide, batch)
    values = {
        "elbo": log_w.mean(0),
        "iw_bound": log_w.logsumexp(0) - math.log(particles),
        "effective_sample_size": (2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp(),
        "squared_error": squared_error(model, latents, batch),
    }
    if hasattr(model, "marginal"):
        exact = copy.deepcopy(model).double()  # in float32 it would be less exact than the bound
        values["log_evidence"] = exact.marginal().log_prob(batch.x.double())
    return values


def _merge(parts: list[tuple[Tensor, dict[str, Tensor]]]) -> dict[str, Tensor]:
    weights = torch.stack([log_w for log_w, _ in parts]).softmax(0)
    return {
        name: sum(
            weight.reshape(-1, *(1,) * (part[name].ndim - 1)) * part[name]
            for weight, (_, part) in zip(weights, parts, strict=True)
        )
        for name in parts[0][1]
    }


def squared_error(model: nn.Module, latents: dict[str, Tensor], batch: Batch) -> Tensor:
    """Sum over pixels of (x - E[x | z])^2, ``[B]``."""
    assert batch.x is not None
    return (batch.x - likelihood_at(model, latents, batch).mean).square().flatten(1).sum(1)


@torch.no_grad()
def reconstruct(model: nn.Module, guide: nn.Module, batch: Batch, particles: int = 100) -> Tensor:
    """E[x | z*] at the mean of q (for the prior: at the importance mean), as ``batch.x``."""
    return likelihood_at(model, encode(guide, batch, model, particles), batch).mean


@torch.no_grad()
def encode(
    guide: nn.Module, batch: Batch, model: nn.Module, particles: int = 100
) -> dict[str, Tensor]:
    """The mean of q(z | x) for every latent, ``[B, *event_shape]``."""
    if not isinstance(guide, Prior):
        return guide_means(guide, batch)
    assert batch.x is not None
    parts: list[dict[str, Tensor]] = []
    rows = max(1, 2**24 // (particles * batch.x[0].numel()))
    for x, index in zip(batch.x.split(rows), batch.index.split(rows), strict=True):
        piece = Batch(x, index, batch.size)
        pair = traces(model, guide, piece, particles)
        parts.append(_importance_means(pair, log_weights(*pair, piece).reshape(particles, -1)))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """Mean over images and its standard error."""
    values = values.double()
    error = values.std() / math.sqrt(len(values)) if len(values) > 1 else torch.tensor(math.nan)
    return values.mean().item(), error.item()
