"""Draws of any pair as ArviZ's ``InferenceData``."""

from typing import Any

import numpy as np
import pyro
import torch
from torch import Tensor, nn

from experiments.data import Data, as_data
from experiments.evaluation.bayesian.arviz_adapter import inference_data
from experiments.evaluation.bounds import runs_of
from experiments.evaluation.shared_draws import draws_in, images_in_cache
from experiments.inference.checks.pair_check import check_once
from experiments.inference.checks.particles import takes_particles
from experiments.inference.checks.sites import sites_of
from experiments.inference.frozen import evaluated
from experiments.inference.traces import by_datum
from ppl_models.batch import Batch
from ppl_models.sites import describe


@evaluated
@torch.no_grad()
def to_arviz(model: nn.Module, guide: nn.Module, data: Data | Any, draws: int = 1000) -> Any:
    """Draws of q as one chain, and the log-likelihood at each.

    They are draws from the posterior only if q is the posterior; ``khat`` measures how well it
    fits. With per-datum latents, a leave-one-out estimate from this ``log_likelihood`` would be
    conditional on the latents of the datum left out.

    Args:
        model: p.
        guide: q, for these data.
        data: a data set, or an array ``[N, ...]``.
        draws: K, the number of draws.

    Returns:
        ArviZ's container with ``posterior`` (every latent that q draws, ``[1, K, N, ...]``, a
        global one ``[1, K, ...]``), ``log_likelihood`` (every observed site and factor,
        ``[1, K, N]``, summed over inner plates [nats]), ``observed_data`` ``[N, ...]`` and, if
        the data have ``given``, ``constant_data``.
    """
    rows = as_data(data).fixed().like(model)
    sites = describe(model, rows)
    at_once = images_in_cache(model, rows)
    size = len(rows) if sites.of_all_data else max(1, at_once // min(draws, 50))
    parts = []
    with pyro.validation_enabled(False):
        for batch in rows.batches(size):
            check_once(model, guide, batch, particles=draws)
            apart = not sites.of_all_data or takes_particles(model)
            parts.append(_of_rows(model, guide, batch, draws, at_once if apart else 1))
    return inference_data(
        {
            group: {name: _joined(group, [part[group][name] for part in parts]) for name in values}
            for group, values in parts[0].items()
            if values
        }
    )


def _of_rows(
    model: nn.Module, guide: nn.Module, batch: Batch, draws: int, at_once: int
) -> dict[str, dict[str, Tensor]]:
    """The groups of some rows: draws as ``[K, ...]``, in runs of ``at_once`` rows."""
    posterior: dict[str, list[Tensor]] = {}
    log_likelihood: dict[str, list[Tensor]] = {}
    for count, p, q in runs_of(model, guide, batch, draws, at_once):
        for name, (z, row, _) in draws_in(q, count).items():
            if name in p.nodes:
                posterior.setdefault(name, []).append(z if row is None else z.movedim(row, 1))
        for site in sites_of(p, observed=True):
            log_p = (by_datum(site) / site["scale"]).reshape(count, -1)
            log_likelihood.setdefault(site["name"], []).append(log_p)
    x = batch.x if isinstance(batch.x, dict) else {describe(model).site: batch.only}
    return {
        "posterior": {name: torch.cat(parts).cpu() for name, parts in posterior.items()},
        "log_likelihood": {name: torch.cat(parts).cpu() for name, parts in log_likelihood.items()},
        "observed_data": x,
        "constant_data": batch.given,
    }


def _joined(group: str, parts: list[Tensor]) -> np.ndarray:
    """All rows of a variable; draws form one chain."""
    drawn = group in ("posterior", "log_likelihood")
    joined = parts[0] if len(parts) == 1 else torch.cat(parts, 1 if drawn else 0)
    array = joined.cpu().numpy()
    return array[None] if drawn else array
