"""E[x | z] at given latents, and the squared error of the data."""

from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn

from experiments.inference.checks.masks import mask_of
from experiments.inference.checks.sites import sites_of, trace_of
from experiments.inference.summed_runs import mean_of, sums_in
from ppl_models.batch import Batch
from ppl_models.coordinates import bare, family
from ppl_models.observing import rows_first
from ppl_models.parameters import own_parameters
from ppl_models.sites import evaluating, hidden_trace, observation


def mean_at(model: nn.Module, latents: dict[str, Tensor], batch: Batch) -> Tensor:
    """E[x | z] at given latents, ``[B, *row_shape]``; the model is run with them fixed.

    Latents that are summed out are averaged over, given z, and given x if the batch has it.
    """
    conditioned, name = poutine.condition(model, data=latents), observation(model)
    with own_parameters(model), evaluating(model):
        trace = trace_of(conditioned, batch.unobserved())
        site = trace.nodes[name]
        if sums := sums_in(trace):
            return rows_first(site, mean_of(name, conditioned, batch, sums, expected))
    return row_means(site)


def expected(likelihood: Any) -> Tensor:
    """E[x | z] as it is shown and compared: zero where a likelihood does not count pixels.

    Raises:
        ValueError: If no mean of it is known.
    """
    try:
        return likelihood.expected if hasattr(likelihood, "expected") else likelihood.mean
    except NotImplementedError as error:
        raise ValueError(f"the mean of {family(likelihood)} is not known.") from error


def row_means(site: Any) -> Tensor:
    """E[x | z] of an observed site of a trace, ``[B, *row_shape]``."""
    return rows_first(site, expected(site["fn"]))


def counted(model: nn.Module, batch: Batch) -> Tensor:
    """True where a value counts in the likelihood, false where a mask leaves it out.

    Returns:
        ``[B, *row_shape]``.
    """
    site = hidden_trace(model, batch).nodes[observation(model)]
    mask = torch.as_tensor(mask_of(site), device=site["value"].device)
    return rows_first(site, mask.expand(site["value"].shape))


def squared_error(model: nn.Module, latents: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
    """Sum over pixels of (x - E[x | z])^2, ``[B]``, of all sites that have a mean.

    Values that a mask removes from the likelihood are left out here, too.
    """
    with own_parameters(model):
        conditioned = poutine.condition(model, data=latents)
        trace = trace_of(conditioned, batch)
        sums, errors = sums_in(trace), []
        for site in sites_of(trace, observed=True):
            kind = isinstance(bare(site["fn"]), dist.Categorical | dist.Unit)
            if site["name"] in latents or kind:
                continue
            try:
                shown = expected(site["fn"])
            except ValueError:
                continue
            if sums:
                shown = mean_of(site["name"], conditioned, batch, sums, expected)
            residual = (site["value"] - shown).square() * mask_of(site)
            plates = {frame.name: frame.dim for frame in site["cond_indep_stack"]}
            rows = residual.movedim(plates["data"] - site["fn"].event_dim, 0)
            errors.append(rows.reshape(len(rows), -1).sum(1))
    return {"squared_error": torch.stack(errors).sum(0)} if errors else {}
