"""Traces of guide and model, and the quantities that objectives compute from them."""

import functools
import itertools
import math
import operator
from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.util import scale_and_mask
from pyro.infer.enum import get_importance_trace
from pyro.infer.util import is_validation_enabled
from pyro.poutine.trace_struct import Trace
from torch import Tensor
from torch.distributions.kl import _KL_REGISTRY, kl_divergence

from experiments.inference.checks.pair_check import check_once
from experiments.inference.checks.particles import spread
from experiments.inference.checks.sites import run_pair, sites_of
from experiments.inference.handlers import At, InsideObjective
from experiments.inference.summed_runs import summed_pair
from ppl_models.batch import Batch
from ppl_models.coordinates import bare, is_point, own_density
from ppl_models.parameters import own_parameters
from ppl_models.sites import is_local

OVER_VALUES = (
    " The objective elbo_enum sums over its values, if the guide marks it "
    "infer={'enumerate': 'parallel'}."
)


def traces(
    model: Callable,
    guide: Callable,
    batch: Batch,
    particles: int = 1,
    latents: bool = True,
    at: dict[str, Tensor] | None = None,
) -> tuple[Trace, Trace]:
    """One run of the guide and the model's replay of it, log-densities computed.

    Those of latents can be left out: a KL in closed form has no use for them. With several
    particles everything has a leading dimension ``[K]`` outside of all plates; of a model that
    takes none, particles follow each other in one long batch, ``[K * B]``. The guide draws its
    latents, or takes the values that ``at`` has for them. Latents of the model that are marked
    and not drawn are summed out of its trace.

    Raises:
        ValueError: Inside ``Temperature``; at a guide site that cannot be reparametrised; at a
            ``pyro.param`` that is no parameter of the two.
    """
    depth, summed, _ = check_once(model, guide, batch, particles=particles)
    if particles > 1:
        (model, guide), batch = spread(model, (model, guide), batch, particles, depth)
    if at is not None:
        guide = At(at)(guide)
    with InsideObjective(), own_parameters(model, guide):
        if summed:
            model_trace, guide_trace = summed_pair(model, guide, batch, depth + 1)
        else:
            model_trace, guide_trace = _run(model, guide, batch, latents)
    for name, site in guide_trace.iter_stochastic_nodes():
        if torch.is_grad_enabled() and not site["fn"].has_rsample:
            raise ValueError(
                f"guide site '{name}' cannot be reparametrised ({type(site['fn']).__name__}): "
                "its score-function gradient would be missing."
                + (OVER_VALUES if site["fn"].has_enumerate_support else "")
            )
    return model_trace, guide_trace


def _run(model: Callable, guide: Callable, batch: Batch, latents: bool) -> tuple[Trace, Trace]:
    """As Pyro's ``get_importance_trace``, which computes every density, and score parts."""
    if is_validation_enabled():
        return get_importance_trace("flat", math.inf, model, guide, (batch,), {})
    model_trace, guide_trace = run_pair(model, guide, batch)
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
    """log p(x, z) - log q(z | x) per particle and datum, ``[K, B]`` or ``[B]`` [nats].

    The subsampling factor is divided out: it never enters a logarithm.

    Raises:
        ValueError: If a site lies outside the data plate, or in another that is subsampled.
    """
    total: Any = 0.0
    for trace, sign in ((model_trace, 1.0), (guide_trace, -1.0)):
        for site in sites_of(trace):
            total = total + sign * by_datum(site)
    return total * (len(batch.index) / batch.size)


def log_likelihood(trace: Trace) -> Any:
    """log p(x | z) over all observed sites and factors, scaled as they are, summed [nats]."""
    return functools.reduce(operator.add, [s["log_prob_sum"] for s in sites_of(trace, True)])


def by_datum(site: Any) -> Tensor:
    """A site's log-density, scaled, per particle and datum: summed over all other plates.

    Raises:
        ValueError: If the site lies outside the data plate, or in another that is subsampled.
    """
    frames, log_prob = site["cond_indep_stack"], site["log_prob"]
    kept = [frame.dim for frame in frames if frame.name in ("data", "particles")]
    if not is_local(site):
        raise ValueError(
            f"site '{site['name']}' is global: it has no importance weight per datum. Objectives "
            "without weights (elbo, elbo_analytic_kl, stl) take global latents."
        )
    for frame in frames:
        if frame.dim not in kept and frame.size != frame.full_size:
            raise ValueError(
                f"the plate '{frame.name}' of site '{site['name']}' is subsampled inside that of "
                "the data: a datum's importance weight needs all of it."
            )
    others = [dim for dim in range(-log_prob.ndim, 0) if dim not in kept]
    return log_prob.sum(others) if others else log_prob


def site_kls(model_trace: Trace, guide_trace: Trace) -> tuple[dict[str, Tensor], list[str]]:
    """KL(q || p) per latent site, scaled as the site is, and the names of the sampled ones.

    Closed form where one is registered, log q - log p at the sample elsewhere; log q alone of a
    site that only the guide has, factors among them.
    """
    kls, sampled = {}, []
    for name, site in guide_trace.iter_stochastic_nodes():
        prior = model_trace.nodes.get(name)
        try:
            if prior is not None and not scaled_alike(site, prior):
                raise NotImplementedError
            kl = kl_of(name, model_trace, guide_trace)
            kls[name] = scale_and_mask(kl, scale=site["scale"], mask=site["mask"])
            if (other := beside_kl(site, prior)) is not None:
                kls[name] = kls[name] + other
        except NotImplementedError:
            log_q = log_density(site)
            kls[name] = log_q if prior is None else within(prior, log_q) - log_density(prior)
            sampled.append(name)
    return kls | {site["name"]: log_density(site) for site in sites_of(guide_trace, True)}, sampled


def scaled_alike(site: Any, prior: Any) -> bool:
    """Whether the densities of two sites have the same factor, or both factors are tensors.

    Compares the factors before ``TemperKL``, whose beta may be 0. Values of tensors are not read
    in a step: ``beside_kl`` adds the term by which two of them differ.
    """
    scales = _untempered(site, prior)
    if any(isinstance(scale, Tensor) for scale in scales):
        return all(isinstance(scale, Tensor) for scale in scales)
    return math.isclose(*scales)


def beside_kl(site: Any, prior: Any) -> Tensor | None:
    """(a - b) log p at the draw, if the factors a of log q and b of log p are different tensors.

    Added to a * KL(q || p), it gives the mean of a log q - b log p; it is zero if a = b.
    """
    a, b = _untempered(site, prior)
    if a is b or not isinstance(a, Tensor):
        return None
    log_p = prior["fn"].log_prob(site["value"])
    return scale_and_mask(log_p, scale=site["scale"] - prior["scale"], mask=prior["mask"])


def _untempered(*sites: Any) -> list[Any]:
    return [site.get("untempered", site["scale"]) for site in sites]


def kl_of(name: str, model_trace: Trace, guide_trace: Trace) -> Tensor:
    """KL(q || p) of a latent in closed form, given the latents that the guide has drawn before it.

    Raises:
        NotImplementedError: If there is none, as of a site that only the guide has, of one whose
            density comes with its value, where a class from elsewhere defines the density and no
            KL, where a transform folds the line (then the KL is not that of the bases), or where
            the guide draws a latent after this one that the model draws before it: its draw
            depends on this one's.
    """
    site, prior = guide_trace.nodes[name], model_trace.nodes.get(name)
    if prior is None or is_point(site["fn"]) or not in_order(name, model_trace, guide_trace):
        raise NotImplementedError
    for one in (site["fn"], prior["fn"]):
        owner = own_density(one)
        if is_folded(one) or (owner and not any(owner in pair for pair in _KL_REGISTRY)):
            raise NotImplementedError
    return kl_divergence(site["fn"], prior["fn"])


def in_order(name: str, model_trace: Trace, guide_trace: Trace) -> bool:
    """Whether the guide has drawn before a latent all that the model has."""
    drawn = [other for other, _ in guide_trace.iter_stochastic_nodes()]
    after = set(drawn[drawn.index(name) :])
    above = itertools.takewhile(lambda other: other != name, model_trace.nodes)
    return after.isdisjoint(above)


def is_folded(distribution: Any) -> bool:
    """Whether two points of the base have the same image, those of a base around 0 excepted."""
    inside = bare(distribution)
    folds = any(not transform.bijective for transform in getattr(inside, "transforms", ()))
    return folds and not isinstance(inside, dist.HalfNormal | dist.HalfCauchy)


def within(prior: Any, log_q: Tensor) -> Tensor:
    """A latent's log q, summed over plates that its prior is no longer in: of a ``Marginal``."""
    kept = {frame.dim for frame in prior["cond_indep_stack"]}
    others = [d for d in range(-log_q.ndim, 0) if d not in kept and log_q.shape[d] > 1]
    return log_q.sum(others, keepdim=True) if others else log_q
