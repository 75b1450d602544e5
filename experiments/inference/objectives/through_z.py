"""Gradients of q through its draws only, as ``stl`` and ``dreg`` need them.

Where q is Gaussian and no latent's posterior depends on another latent, q's parameters are simply
held constant in log q. Elsewhere that would cut the paths between latents: guide and model run a
second time at the same z, and the gradient by z is handed to the draws of the first run.
"""

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine.guide import GuideMessenger
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from experiments.errors import said_by
from experiments.inference.checks.sites import same_density, trace_of
from experiments.inference.gaussians import detached
from experiments.inference.handlers import At, InsideObjective
from experiments.inference.pair import Buffers
from experiments.inference.traces import traces
from ppl_models.batch import Batch
from ppl_models.coordinates import is_point
from ppl_models.parameters import own_parameters
from ppl_models.random_numbers import forked_rng

_dependent: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()
"""Guide -> whether the posterior of one latent depends on another latent."""

_same: WeakKeyDictionary[Any, set[bool]] = WeakKeyDictionary()
"""Guide -> modes (training or not) in which its second run has given the same q."""


def seen_through_z(guide_trace: Trace) -> Trace:
    """The trace of a simple guide, q's parameters constants: log q is seen through z alone."""
    seen = guide_trace.copy()
    for name, site in guide_trace.iter_stochastic_nodes():
        log_prob = detached(site["fn"]).log_prob(site["value"])
        log_prob = scale_and_mask(log_prob, scale=site["scale"], mask=site["mask"])
        seen.nodes[name] = {**site, "log_prob": log_prob, "log_prob_sum": log_prob.sum()}
    return seen


def is_simple(guide: Callable, guide_trace: Trace, batch: Batch) -> bool:
    """Whether q is Gaussian, and no latent's posterior depends on another latent."""
    sites = [site for _, site in guide_trace.iter_stochastic_nodes()]
    if not all(map(_is_gaussian, sites)):
        return False
    return len(sites) <= 1 or not _depends(guide, batch)


def independent_draws(guide_trace: Trace) -> list[tuple[Tensor, int]]:
    """What the guide draws, without latents that are functions of it; and its event dimensions."""
    sites = [site for _, site in guide_trace.iter_stochastic_nodes()]
    if any(site["infer"].get("is_auxiliary") for site in sites):
        sites = [site for site in sites if not is_point(site["fn"])]
    return [(site["value"], site["fn"].event_dim) for site in sites]


def _is_gaussian(site: Any) -> bool:
    try:
        detached(site["fn"])
    except ValueError:
        return False
    return all(frame.name in ("particles", "data") for frame in site["cond_indep_stack"])


def _depends(guide: Callable, batch: Batch) -> bool:
    """Whether log q of one latent has a gradient by another; looked at once per guide."""
    program = poutine.unwrap(guide)
    if isinstance(program, GuideMessenger):
        return True
    if program not in _dependent:
        lent = Buffers(program).lent()
        with lent, torch.enable_grad(), forked_rng(), InsideObjective(), own_parameters(guide):
            leaves = _leaves(trace_of(guide, batch))
            trace = trace_of(At(leaves)(guide), batch)
            log_q: Any = sum(
                trace.nodes[name]["fn"].log_prob(z.detach()).sum() for name, z in leaves.items()
            )
        found: tuple[Any, ...] = ()
        if log_q.requires_grad:
            found = torch.autograd.grad(log_q, list(leaves.values()), allow_unused=True)
        _dependent[program] = any(gradient is not None for gradient in found)
    return _dependent[program]


def _leaves(guide_trace: Trace) -> dict[str, Tensor]:
    """The latents' values, as constants that gradients are taken by."""
    return {
        name: site["value"].detach().requires_grad_()
        for name, site in guide_trace.iter_stochastic_nodes()
    }


def at_fixed_draws(
    model: Callable, guide: Callable, batch: Batch, particles: int, guide_trace: Trace
) -> tuple[Trace, Trace, dict[str, Tensor]]:
    """A second run at the draws of the first: the traces of model and guide, and the leaves.

    Raises:
        ValueError: If a density of q cannot be computed at given draws.
    """
    leaves = _leaves(guide_trace)
    with Buffers(model, guide).lent():  # running means have seen this batch
        try:
            again = traces(model, guide, batch, particles, at=leaves)
        except (KeyError, NotImplementedError) as error:  # of transforms without an inverse
            raise ValueError(
                f"this objective needs log q at given draws: {said_by(error)}"
            ) from error
    _check_same(guide, guide_trace, again[1])
    return *again, leaves


def _check_same(guide: Callable, first: Trace, second: Trace) -> None:
    """Refuse a guide that differs in its second run; looked at once per guide and mode."""
    program: Any = poutine.unwrap(guide)
    modes = _same.setdefault(program, set())
    mode = getattr(program, "training", False)
    if mode in modes:
        return
    for name, site in second.iter_stochastic_nodes():
        z = site["value"].detach()
        with torch.no_grad():
            before, now = (one["fn"].log_prob(z) for one in (first.nodes[name], site))
        if not same_density(before, now):
            raise ValueError(
                f"this objective runs {type(program).__name__} twice at the same draws, and its "
                f"second q of '{name}' differs: a guide with dropout or other noise needs "
                "an objective with one run, such as elbo or iwae (or guide.eval())."
            )
    modes.add(mode)


def along_draws(guide_trace: Trace, leaves: dict[str, Tensor], total: Tensor) -> Any:
    """Zero, whose gradient is that of ``total`` by the leaves, handed to the guide's draws."""
    if not torch.is_grad_enabled():
        return 0.0
    slopes = torch.autograd.grad(
        total, list(leaves.values()), retain_graph=True, allow_unused=True
    )
    draws = [guide_trace.nodes[name]["value"] for name in leaves]
    return sum(
        (slope * (z - z.detach())).sum()
        for z, slope in zip(draws, slopes, strict=True)
        if slope is not None
    )
