"""Runs of programs whose marked latents are summed out, see ``summation``."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine.guide import GuideMessenger
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from experiments.errors import said_by
from experiments.inference.checks.sites import (
    densities,
    depth_of,
    name_of,
    run_pair,
    same_density,
    trace_of,
)
from experiments.inference.summation import SumOut, summed_out, unmasked
from guides.prior import Prior
from ppl_models.batch import Batch
from ppl_models.random_numbers import forked_rng
from ppl_models.sites import evaluating, is_summed


def summed_pair(model: Callable, guide: Callable, batch: Batch, depth: int) -> tuple[Trace, Trace]:
    """The traces of model and guide, densities computed, the model's marked latents summed out.

    The density of ``Prior`` is that of the model's latents, with the same ones summed out.

    Raises:
        ValueError: If an effect guide draws a latent whose prior depends on a summed one; under
            ``Prior``, if gradients are asked for.
    """
    sums, bare = SumOut(depth), poutine.unwrap(guide)
    if isinstance(bare, Prior) and not torch.is_grad_enabled():
        _, q = run_pair(model, guide, batch)
        p = trace_of(poutine.replay(sums(model), trace=q), batch)
    elif isinstance(bare, GuideMessenger):
        p, q = run_pair(model, sums(guide), batch)
        for name, site in q.iter_stochastic_nodes():
            if len(site["fn"].batch_shape) > depth:
                raise ValueError(
                    f"{type(bare).__name__} draws '{name}' as its prior goes by, once for every "
                    "value of a latent that is summed out: take a guide that draws it once, given "
                    "x alone, such as mean_field."
                )
    else:
        p, q = run_pair(sums(model), guide, batch)
    unmasked(p).compute_log_prob()
    p = summed_out(p)
    if isinstance(bare, Prior):
        for name, site in q.iter_stochastic_nodes():
            site |= {key: p.nodes[name][key] for key in ("log_prob", "log_prob_sum")}
    q.compute_log_prob()
    return p, q


def values_of(site: Any) -> Tensor:
    """All values of a summed site, ``[values, *event_shape]``."""
    fn = site["fn"]
    values = site["value"].movedim(site["infer"]["_enumerate_dim"] - fn.event_dim, 0)
    return values.reshape(len(values), -1, *fn.event_shape)[:, 0]


def check_sums(model: Any, guide_trace: Trace, batch: Any, depth: int) -> None:
    """Refuse a model whose density at one value of a summed latent depends on the other values."""

    def run(story: Any) -> dict[str, Any]:
        return densities(trace_of(poutine.replay(story, trace=guide_trace), batch))

    with evaluating(poutine.unwrap(model)):
        try:
            every = run(SumOut(depth)(model))
        except Exception as error:  # a shape error
            raise ValueError(
                f"{name_of(model)} does not take all values of a summed latent at once: they lie "
                f"along a dimension of their own, left of all plates ({said_by(error)[:150]})."
            ) from None
        last = {name: values_of(site)[-1] for name, site in every.items() if is_summed(site)}
        alone = run(poutine.condition(model, data=last))
    for name, site in every.items():
        table = site["log_prob"]
        while table.ndim > depth:
            table = table[-1]
        if not same_density(table, alone[name]["log_prob"]):
            raise ValueError(
                f"{name_of(model)} mixes the values of a summed latent: beside the others the "
                f"density of '{name}' changes. Values lie along a dimension left of all plates."
            )


def sums_in(trace: Trace) -> SumOut | None:
    """What sums out the marked latents of a trace without subsample sites; None if it has none."""
    sites = [site for site in trace.nodes.values() if site["type"] == "sample"]
    return SumOut(max(map(depth_of, sites))) if any(map(is_summed, sites)) else None


def sums_of(program: Callable, batch: Batch) -> SumOut | None:
    """The same of a program, from one hidden run."""
    with torch.no_grad(), forked_rng(), poutine.block():
        return sums_in(trace_of(program, batch))


def posterior_probabilities(trace: Trace, name: str) -> Tensor:
    """Posterior probabilities of the values that a site's density depends on, given all observed.

    They are the slope of log sum_y p(x, y) by the site's log-density, and lie as that does, values
    before plates.

    Args:
        trace: a trace of a model inside ``SumOut``, conditioned on its other latents.
        name: the name of a summed site, or of x, which may be observed.
    """
    unmasked(trace).compute_log_prob(lambda name, site: site["is_observed"] or is_summed(site))
    given = {n: node for n, node in trace.nodes.items() if "log_prob" in node}
    site = trace.nodes[name]
    like = next(iter(given.values()))["log_prob"]
    unseen = like.new_zeros(site["fn"].batch_shape)
    log_prob = scale_and_mask(site.get("unscaled_log_prob", unseen).detach(), mask=site["mask"])
    tilt = torch.zeros_like(log_prob).requires_grad_()
    observed, seen = site["is_observed"] or not is_summed(site), trace.copy()
    with torch.enable_grad():
        # the tilt is outside the mask: what is masked has a posterior, too
        tilted = {"is_observed": observed, "unscaled_log_prob": log_prob + tilt, "mask": None}
        seen.nodes = OrderedDict({**given, name: {**site, **tilted}})
        evidence: Any = sum(s["unscaled_log_prob"].sum() for s in summed_out(seen).nodes.values())
    return torch.autograd.grad(evidence, tilt)[0]


def mean_of(
    name: str, model: Callable, batch: Batch, sums: SumOut, mean: Callable[[Any], Tensor]
) -> Tensor:
    """E[x | z], averaged over the summed latents given z, and given x where the batch has it.

    Args:
        name: the name of the observed site.
        model: p, its other latents conditioned on.
        batch: with or without x.
        sums: the handler that sums out the marked latents.
        mean: from a likelihood to its mean.
    """
    trace = trace_of(sums(model), batch)
    site = trace.nodes[name]
    weights, event_dim = posterior_probabilities(trace, name), site["fn"].event_dim
    shown = weights.reshape(*weights.shape, *(1,) * event_dim) * mean(site["fn"])
    outer = shown.ndim - event_dim - depth_of(site)
    return shown.flatten(0, outer - 1).sum(0) if outer > 0 else shown


@torch.no_grad()
def draw_of_sums(model: Callable, z: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
    """A draw of the summed latents from p(y | x, z), one after the other."""
    drawn: dict[str, Tensor] = {}
    given = poutine.condition(model, data=z)
    while sums := sums_of(given, batch):
        trace = trace_of(sums(given), batch)
        name = next(n for n, s in trace.nodes.items() if s["type"] == "sample" and is_summed(s))
        site = trace.nodes[name]
        at = site["infer"]["_enumerate_dim"]
        probabilities = posterior_probabilities(trace, name).movedim(at, -1)
        index = torch.distributions.Categorical(probabilities).sample()
        drawn[name] = values_of(site)[index.reshape(index.shape[index.ndim - depth_of(site) :])]
        given = poutine.condition(model, data=z | drawn)
    return drawn
