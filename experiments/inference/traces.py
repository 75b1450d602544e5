"""One run of guide and model, and what every objective reads off their traces."""

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.infer.enum import get_importance_trace
from pyro.infer.util import is_validation_enabled
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor, nn
from torch.distributions import kl_divergence

from experiments.inference.gaussians import detached
from experiments.inference.handlers import InsideObjective
from guides.guide import EffectGuide
from ppl_models.parameters import own_parameters
from ppl_models.program import Batch, check_plates, is_deterministic

__all__ = ["log_weights", "seen_through_z", "site_kls", "traces"]


def traces(
    model: Callable, guide: Callable, batch: Batch, particles: int = 1, latents: bool = True
) -> tuple[Trace, Trace]:
    """One run of the guide and the model's replay of it, log-densities computed.

    Those of latents can be left out: a KL in closed form has no use for them. With several
    particles everything has a leading dimension ``[S]`` outside the data plate; of a model that
    takes none, particles follow each other in one long batch, ``[S * B]``.

    Raises:
        ValueError: Inside ``Temperature``; at a guide site that cannot be reparametrised; at a
            ``pyro.param`` that is no parameter of the two.
    """
    if particles > 1 and not getattr(model, "vectorises", True):
        batch = batch.repeated(particles)
        model, guide = (poutine.scale(part, particles) for part in (model, guide))
    elif particles > 1:
        outer = pyro.plate("particles", particles, dim=-2)
        model, guide = outer(model), outer(guide)
    with InsideObjective(), own_parameters(model, guide), _room_for_particles():
        model_trace, guide_trace = _run(model, guide, batch, latents)
    for name, site in guide_trace.iter_stochastic_nodes():
        if torch.is_grad_enabled() and not site["fn"].has_rsample:
            raise ValueError(
                f"guide site '{name}' cannot be reparametrised ({type(site['fn']).__name__}): "
                "its score-function gradient would be missing."
            )
    return model_trace, guide_trace


@contextmanager
def _room_for_particles() -> Iterator[None]:
    """Inside, a plate that takes the particles' dimension is refused in words."""
    try:
        yield
    except ValueError as error:
        found = re.match('at plates "(.+?)" and "(.+?)", collide', str(error))
        if found is None or "particles" not in found.groups():
            raise
        (plate,) = {*found.groups()} - {"particles"}
        raise ValueError(
            f"the plate '{plate}' beside that of the data leaves no room for particles: make "
            "that dimension part of the event instead (expand, then to_event)."
        ) from None


def _run(model: Callable, guide: Callable, batch: Batch, latents: bool) -> tuple[Trace, Trace]:
    """As Pyro's ``get_importance_trace``, which computes every density, and score parts."""
    if is_validation_enabled():
        return get_importance_trace("flat", math.inf, model, guide, (batch,), {})
    if isinstance(poutine.unwrap(guide), EffectGuide):
        guide(batch)
        model_trace, guide_trace = poutine.unwrap(guide).get_traces()
    else:
        guide_trace = poutine.trace(guide).get_trace(batch)
        model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(batch)
    model_trace, guide_trace = map(prune_subsample_sites, (model_trace, guide_trace))
    if latents:
        guide_trace.compute_log_prob()
    model_trace.compute_log_prob(lambda name, site: latents or site["is_observed"])
    return model_trace, guide_trace


def log_density(site: Any) -> Tensor:
    """A site's log-density, scaled as the site is, computed if it is not there."""
    if "log_prob" in site:
        return site["log_prob"]
    return scale_and_mask(site["fn"].log_prob(site["value"]), site["scale"], site["mask"])


def log_weights(model_trace: Trace, guide_trace: Trace, batch: Batch) -> Tensor:
    """log p(x, z) - log q(z | x) per particle and datum, ``[S, B]`` or ``[B]`` [nats].

    The subsampling factor is divided out: it never enters a logarithm.

    Raises:
        ValueError: If a latent lies outside the data plate, or in a second one inside it.
    """
    total: Any = 0.0
    for trace, sign in ((model_trace, 1.0), (guide_trace, -1.0)):
        for name, site in trace.nodes.items():
            if site["type"] != "sample" or is_deterministic(site):
                continue
            check_plates(name, site)
            if "data" not in {frame.name for frame in site["cond_indep_stack"]}:
                raise ValueError(
                    f"site '{name}' is global: it has no importance weight per datum."
                )
            total = total + sign * site["log_prob"]
    return total * (len(batch.index) / batch.size)


def site_kls(model_trace: Trace, guide_trace: Trace) -> tuple[dict[str, Tensor], list[str]]:
    """KL(q || p) per latent site, scaled as the site is, and the names of the sampled ones.

    Closed form where one is registered, log q - log p at the sample elsewhere.
    """
    kls, sampled = {}, []
    for name, site in guide_trace.iter_stochastic_nodes():
        prior = model_trace.nodes[name]
        try:
            kl = kl_divergence(site["fn"], prior["fn"])
            kls[name] = scale_and_mask(kl, scale=site["scale"], mask=site["mask"])
        except NotImplementedError:
            kls[name] = log_density(site) - log_density(prior)
            sampled.append(name)
    return kls, sampled


def seen_through_z(guide: Callable, guide_trace: Trace) -> Trace:
    """The trace of a guide with log q seen through z alone: q's parameters are constants in it.

    Raises:
        ValueError: At a guide that is not Gaussian; of several latents, where the parameters of
            one are functions of another and may not be constants.
    """
    latents = [name for name, _ in guide_trace.iter_stochastic_nodes()]
    if isinstance(poutine.unwrap(guide), EffectGuide) and len(latents) > 1:
        raise ValueError(
            "stl and dreg are for models with one latent: in a hierarchy they would cut the paths "
            f"between {', '.join(latents[:3])}; use elbo_analytic_kl or elbo."
        )
    seen = guide_trace.copy()
    for name, site in guide_trace.iter_stochastic_nodes():
        log_prob = detached(site["fn"]).log_prob(site["value"])
        log_prob = scale_and_mask(log_prob, scale=site["scale"], mask=site["mask"])
        seen.nodes[name] = {**site, "log_prob": log_prob, "log_prob_sum": log_prob.sum()}
    return seen


def density(
    program: nn.Module, batch: Batch, sites: list[str]
) -> Callable[[dict[str, Tensor]], Tensor]:
    """The log-density of some sites at given latents, of every row [nats]."""

    def log_density(z: dict[str, Tensor]) -> Tensor:
        with poutine.block(), pyro.validation_enabled(False):
            trace = poutine.trace(poutine.condition(program, data=z)).get_trace(batch)
        trace.compute_log_prob(lambda name, _: name in sites)
        total: Any = sum(
            trace.nodes[name]["log_prob"] / trace.nodes[name]["scale"] for name in sites
        )
        return total

    return log_density
