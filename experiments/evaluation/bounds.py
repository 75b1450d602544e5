"""Bounds on log p(x), image by image or of a whole data set, for any pair."""

import copy
import math
from collections.abc import Iterator
from operator import itemgetter
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from torch import Tensor, nn

from experiments.data import Data
from experiments.errors import UsageError
from experiments.evaluation.sampling.reconstruction import mean_at, squared_error
from experiments.evaluation.shared_draws import (
    SharedDraws,
    draws_in,
    images_in_cache,
    importance_means,
    numbers_per_image,
    shared_draws,
)
from experiments.inference.checks.pair_check import check_rows, draws_are_shared
from experiments.inference.checks.rows import check_local
from experiments.inference.checks.sites import data_dim, sites_of
from experiments.inference.frozen import evaluated
from experiments.inference.handlers import Mean
from experiments.inference.objectives import ELBO
from experiments.inference.traces import by_datum, log_weights, traces
from guides.prior import Prior
from ppl_models.batch import Batch
from ppl_models.parameters import own_parameters
from ppl_models.program import closed_form
from ppl_models.sites import evaluating, is_summed, prior_trace

DRAWS = 100
"""Number of draws from q for the bound of a whole data set."""

ENCODING_DRAWS = 1000
"""Number of draws of the prior for an encoding by importance."""


def guide_means(guide: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """The mean of q for every latent; of a hierarchy, level by level."""
    with Mean(), own_parameters(guide), evaluating(guide):
        trace = poutine.trace(guide).get_trace(batch)
    return {
        name: site["value"].detach()
        for name, site in trace.iter_stochastic_nodes()
        if not (poutine.util.site_is_subsample(site) or is_summed(site))
    }


def rows_at_a_time(model: Any, data: Data, memory: float, most: int = 2**40) -> int:
    """Number of images that fit into ``memory`` GiB, with eight copies each, at most ``most``.

    Raises:
        UsageError: If not even one does.
    """
    numbers = numbers_per_image(model, data)
    fits = int(min(memory * 2**30 / (8 * 8 * numbers), most))
    if fits < 1:
        raise UsageError(f"--memory {memory} GiB is too small for one image of {numbers} numbers.")
    return fits


def exact_marginal(model: Any) -> Any:
    """p(x) in float64, since float32 errs more than a bound; None without a closed form."""
    return copy.deepcopy(model).double().marginal() if closed_form(model, "marginal") else None


@evaluated
@torch.no_grad()
def per_image(
    model: Any, guide: nn.Module, data: Data, particles: int = 1, memory: float = 1.0
) -> dict[str, Tensor]:
    """Figures of every image, ``[N]`` each.

    Args:
        model: p.
        guide: q; of a per-datum guide, the one fitted to these data.
        data: data with fixed pixels.
        particles: K, draws of q per image; of the prior, draws that all images share where
            x is all that is observed.
        memory: GiB for intermediate values.

    Returns:
        ``elbo`` (the mean log-weight), its parts ``rate`` (log q - log p of the latents) and
        ``distortion`` (-log p(x | z)), so that elbo = -rate - distortion, and ``iw_bound`` (the
        log of the mean weight) [nats]; ``effective_sample_size`` of the weights in [1, K],
        ``squared_error`` of the reconstruction from the mean of q (if what is observed has a
        known mean), and ``log_evidence`` [nats] if the model has a ``marginal`` or all of its
        latents are summed out. Of shared draws also ``log_sum`` and ``sum_log`` ``[N, blocks]``,
        see ``SharedDraws``.
    """
    check_rows(model, guide, data)
    fits = rows_at_a_time(model, data, memory)
    at_once = min(images_in_cache(model, data), fits)
    rows = max(1, min(2000, at_once // min(particles, 50)))
    marginal = exact_marginal(model)
    with pyro.validation_enabled(False):
        shared = isinstance(guide, Prior) and draws_are_shared(model, guide, data)
        if shared:
            drawn = shared_draws(model, data, particles, min(1000, fits))
        chunks: list[dict[str, Tensor]] = []
        for batch in data.batches(rows):
            if shared:
                values, latents = _of_the_prior(drawn, batch.index, particles)
            else:
                values, latents = _of_own_draws(model, guide, batch, particles, at_once)
            values |= squared_error(model, latents, batch)
            if marginal is not None:
                values["log_evidence"] = marginal.log_prob(batch.only.double())
            chunks.append(values)
    return {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}


def _of_own_draws(
    model: Any, guide: nn.Module, batch: Batch, particles: int, at_once: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Bounds from ``particles`` draws of q for every row, ``[B]`` each; and the latents' means."""
    log_ws, runs = [], []
    distortion = torch.zeros((), device=batch.index.device)
    for count, model_trace, guide_trace in runs_of(model, guide, batch, particles, at_once):
        log_ws.append(log_weights(model_trace, guide_trace, batch).reshape(count, -1))
        for site in sites_of(model_trace, observed=True):
            log_likelihood = (by_datum(site) / site["scale"]).reshape(count, -1)
            distortion = distortion - log_likelihood.sum(0) / particles
        if isinstance(guide, Prior):
            runs.append(draws_in(guide_trace, count))
    log_w = torch.cat(log_ws)
    sums = log_w.logsumexp(0), (2 * log_w).logsumexp(0)
    values = _bounds(log_w.mean(0), distortion, *sums, particles)
    if not list(guide_trace.iter_stochastic_nodes()):
        values["log_evidence"] = values["elbo"]  # every latent is summed out
    return values, importance_means(log_w, runs) if runs else guide_means(guide, batch)


def runs_of(
    model: Any, guide: nn.Module, batch: Batch, particles: int, at_once: int
) -> Iterator[tuple[int, Trace, Trace]]:
    """Particles in runs of at most ``at_once`` rows: the number in each, traces of p and q."""
    at_a_time = max(1, at_once // len(batch.index))
    for start in range(0, particles, at_a_time):
        count = min(at_a_time, particles - start)
        yield count, *traces(model, guide, batch, count)


def _bounds(
    elbo: Tensor, distortion: Tensor, log_sum: Tensor, log_square_sum: Tensor, particles: int
) -> dict[str, Tensor]:
    """Figures of every row, from sums over the weights and over their squares."""
    return {
        "elbo": elbo,
        "rate": -elbo - distortion,
        "distortion": distortion,
        "iw_bound": log_sum - math.log(particles),
        "effective_sample_size": (2 * log_sum - log_square_sum).exp(),
    }


def _of_the_prior(
    drawn: SharedDraws, rows: Tensor, particles: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The same from shared draws of the prior, with weights p(x | z); and the importance means."""
    log_sum, sum_log = drawn.log_sum[:, rows], drawn.sum_log[:, rows]
    elbo = sum_log.sum(0) / particles
    values = _bounds(elbo, -elbo, log_sum.logsumexp(0), drawn.log_square_sum[rows], particles)
    values |= {"log_sum": log_sum.mT, "sum_log": sum_log.mT}
    return values, {name: mean[rows] for name, mean in drawn.means.items()}


@evaluated
@torch.no_grad()
def whole_bound(
    model: nn.Module, guide: nn.Module, data: Data, draws: int = DRAWS, memory: float = 1.0
) -> tuple[float, float]:
    """The ELBO of all rows together, and its Monte-Carlo standard error [nats per data point].

    Models with global latents have no other bound. If the rows do not fit into ``memory`` GiB, a
    draw is the mean over batches, each with separate latents and rescaled to all rows; this mean
    is unbiased too. The pixels are fixed, and ``draws`` are two at least.
    """
    rows = rows_at_a_time(model, data, memory, len(data))
    found = torch.zeros(draws, dtype=torch.float64)
    with pyro.validation_enabled(False):
        for draw in range(draws):
            for batch in data.batches(rows):
                share = len(batch.index) / batch.size
                found[draw] -= share * ELBO().loss(model, guide, batch) / batch.size
    return mean_and_error(found)


@torch.no_grad()
def reconstruct(model: nn.Module, guide: nn.Module, batch: Batch) -> Tensor:
    """E[x | z*] at the mean of q (for the prior: at the importance mean), as ``batch.x``."""
    return mean_at(model, encode(guide, batch, model), batch)


@torch.no_grad()
def encode(
    guide: nn.Module, batch: Batch, model: nn.Module, particles: int = ENCODING_DRAWS
) -> dict[str, Tensor]:
    """E[z | x] under q, of every latent, ``[B, *event_shape]``; by importance under the prior."""
    check_local(model, "an encoding")
    with evaluating(model):
        if not isinstance(guide, Prior):
            return guide_means(guide, batch)
        array = Data.of(batch)
        if draws_are_shared(model, guide, array):
            return shared_draws(model, array, particles).means
        at_once = images_in_cache(model, array)
        rows = max(1, 2**30 // (8 * 8 * numbers_per_image(model, array)))  # that fit into a GiB
        starts = range(0, len(batch.index), rows)
        parts = [batch.each(itemgetter(slice(start, start + rows))) for start in starts]
        means = [_of_own_draws(model, guide, b, particles, at_once)[1] for b in parts]
    return means[0] if len(means) == 1 else _joined(model, means)


def _joined(model: nn.Module, parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Latents of several batches, joined along the dimension of the data."""
    nodes, found = prior_trace(model).nodes, {}
    for name in parts[0]:
        dim = data_dim(nodes[name])
        assert dim is not None
        found[name] = torch.cat([part[name] for part in parts], dim - nodes[name]["fn"].event_dim)
    return found


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """Mean of values and its standard error, NaN of a single one."""
    values = values.double()
    error = values.std() / math.sqrt(len(values)) if len(values) > 1 else torch.tensor(math.nan)
    return values.mean().item(), error.item()
