"""Simulated data must be draws from the model's density."""

from typing import Any

import torch
from pyro import poutine

from experiments.inference.checks.sites import densities, densities_at, name_of, trace_of
from ppl_models.batch import needs_given
from ppl_models.observing import rows_first
from ppl_models.parameters import own_parameters
from ppl_models.random_numbers import forked_rng
from ppl_models.sites import describe, evaluating, request, simulate


@torch.no_grad()
def check_simulates(model: Any, what: str, latents_given: bool = False) -> None:
    """Refuse a model with a factor, or with an observation of a fixed value.

    Such a site changes p(x, z), but not the draws. A site whose density does not depend on the
    draws, such as a given label, changes neither and is accepted.

    Args:
        model: p.
        what: first words of the message.
        latents_given: whether only x is drawn, at latents from elsewhere; factors of the latents
            alone are then accepted.
    """
    batch, latents = request(model, 2), describe(model).latents
    with forked_rng(), evaluating(model), own_parameters(model), needs_given(batch) as asked:
        one = densities(trace_of(model, asked))
        kept = {name: one[name]["value"] for name in latents if latents_given}
        other = densities_at(model, kept, asked)
        _check_reads(model, what)
    for name, site in one.items():
        if site["is_observed"] and not torch.equal(site["log_prob"], other[name]["log_prob"]):
            raise ValueError(
                f"{what} simulates data, but data drawn from {name_of(model)} ignore '{name}', a "
                "factor or an observation with a fixed value: they are not draws from p(x, z)."
            )


def _check_reads(model: Any, what: str) -> None:
    """Refuse a model that observes a function of ``batch.x``: its draws are no such data."""
    sites = describe(model)
    trace, batch = simulate(model, 2)
    latents = {name: trace.nodes[name]["value"] for name in sites.latents}
    seen = poutine.trace(poutine.condition(model, latents)).get_trace(batch).nodes
    for name in sites.observed:
        drawn, read = (rows_first(nodes[name]) for nodes in (trace.nodes, seen))
        if drawn.shape != read.shape or not torch.allclose(drawn.to(read), read):
            raise ValueError(
                f"{what} simulates data, but {name_of(model)} observes something else than it "
                f"draws (a function of batch.x): draws of '{name}' are not data that it reads. "
                "Transform the data beforehand."
            )
