"""Runs of programs whose marked latents are summed out, see ``summation``."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from pyro import poutine
from pyro.infer import infer_discrete
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor

from experiments.inference.checks.pair_check import run_pair
from experiments.inference.pair import cuda_devices
from experiments.inference.summation import SumOut, summed_out
from guides.guide import EffectGuide
from guides.prior import Prior
from ppl_models.program import Batch, is_summed

__all__ = ["draw_of_sums", "mean_of_x", "summed_pair", "sums_in", "sums_of"]


def summed_pair(model: Callable, guide: Callable, batch: Batch, depth: int) -> tuple[Trace, Trace]:
    """The traces of model and guide, densities computed, the model's marked latents summed out.

    The density of ``Prior`` is that of the model's latents, with the same ones summed out.

    Args:
        model: p, bare or inside Pyro's handlers.
        guide: q, likewise.
        batch: as ``forward`` takes it.
        depth: dimensions that plates take, particles among them.

    Raises:
        ValueError: If an effect guide draws a latent whose prior depends on a summed one; under
            ``Prior``, if gradients are asked for.
    """
    sums, bare = SumOut(depth), poutine.unwrap(guide)
    if isinstance(bare, Prior) and not torch.is_grad_enabled():
        _, q = run_pair(model, guide, batch)
        replayed = poutine.replay(sums(model), trace=q)
        p = prune_subsample_sites(poutine.trace(replayed).get_trace(batch))
    elif isinstance(bare, EffectGuide):
        p, q = run_pair(model, sums(guide), batch)
        for name, site in q.iter_stochastic_nodes():
            if len(site["fn"].batch_shape) > depth:
                raise ValueError(
                    f"the prior of '{name}' depends on a latent that is summed out, and "
                    f"{type(bare).__name__} draws '{name}' from where that prior is: take a guide "
                    "that draws it given x alone, such as mean_field."
                )
    else:
        p, q = run_pair(sums(model), guide, batch)
    p.compute_log_prob()
    p = summed_out(p)
    if isinstance(bare, Prior):
        for name, site in q.iter_stochastic_nodes():
            site |= {key: p.nodes[name][key] for key in ("log_prob", "log_prob_sum")}
    q.compute_log_prob()
    return p, q


def sums_in(trace: Trace) -> SumOut | None:
    """What sums out the marked latents that a trace shows; None if it shows none."""
    sites = [site for site in trace.nodes.values() if site["type"] == "sample"]
    sites = [site for site in sites if not poutine.util.site_is_subsample(site)]
    return SumOut(max(map(_depth, sites))) if any(map(is_summed, sites)) else None


def _depth(site: Any) -> int:
    return max((-frame.dim for frame in site["cond_indep_stack"]), default=1)


def sums_of(program: Callable, batch: Batch) -> SumOut | None:
    """The same of a program, from one hidden run."""
    devices = cuda_devices(batch.index)
    with torch.no_grad(), torch.random.fork_rng(devices), poutine.block():
        return sums_in(poutine.trace(program).get_trace(batch))


def draw_of_sums(model: Callable, z: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
    """A draw of the summed latents y from p(y | x, z); empty where a model has none."""
    given = poutine.condition(model, data=z)
    sums = sums_of(given, batch)
    if sums is None:
        return {}
    drawn = infer_discrete(given, first_available_dim=sums.first_available_dim)
    nodes = poutine.trace(drawn).get_trace(batch).nodes
    return {n: s["value"] for n, s in nodes.items() if s["type"] == "sample" and is_summed(s)}


@torch.enable_grad()
def mean_of_x(
    model: Callable, batch: Batch, sums: SumOut, mean: Callable[[Any], Tensor]
) -> Tensor:
    """E[x | z], averaged over the summed latents y given z, and given x where the batch has it.

    Their probabilities p(y | x, z) are the slope of log sum_y p(x, y | z) by log p(x | y, z).

    Args:
        model: p, its other latents conditioned on.
        batch: with or without x.
        sums: what sums out the marked latents.
        mean: of a likelihood.
    """
    trace = prune_subsample_sites(poutine.trace(sums(model)).get_trace(batch))
    site = trace.nodes["x"]
    shown, event_dim = mean(site["fn"]).detach(), site["fn"].event_dim
    tilt = shown.new_zeros(site["fn"].batch_shape, requires_grad=True)
    trace.compute_log_prob(lambda name, site: site["is_observed"] or is_summed(site))
    given = {name: node for name, node in trace.nodes.items() if "log_prob" in node}
    tilted = site.get("unscaled_log_prob", 0.0) + tilt
    given["x"] = {**site, "is_observed": True, "unscaled_log_prob": tilted}
    trace.nodes = OrderedDict(given)
    evidence: Any = sum(s["unscaled_log_prob"].sum() for s in summed_out(trace).nodes.values())
    (weights,) = torch.autograd.grad(evidence, tilt)
    shown = weights.reshape(*weights.shape, *(1,) * event_dim) * shown
    outer = shown.ndim - event_dim - _depth(site)
    return shown.flatten(0, outer - 1).sum(0) if outer > 0 else shown
