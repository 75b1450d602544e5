"""What is maximised: bounds on log p(x) as Pyro ELBOs, free of synchronisation inside a step.

A plate rescales a minibatch by N / B, so every objective estimates a sum over the data set, in
nats; ``SVI`` divides by N.
"""

import math
from collections.abc import Callable
from typing import Any

import pyro
import torch
from pyro.distributions.util import scale_and_mask
from pyro.infer import ELBO
from pyro.infer.enum import get_importance_trace
from pyro.poutine.trace_struct import Trace
from torch import Tensor
from torch.distributions import kl_divergence

from experiments.inference.gaussians import detached
from experiments.inference.handlers import InsideObjective
from ppl_models.program import Batch

__all__ = [
    "IWAE",
    "OBJECTIVES",
    "STL",
    "AnalyticKL",
    "Elbo",
    "LogJoint",
    "Objective",
    "check_objective",
    "default_objective",
    "log_weights",
    "site_kls",
    "traces",
]


def traces(
    model: Callable, guide: Callable, batch: Batch, particles: int = 1
) -> tuple[Trace, Trace]:
    """One run of the guide and the model's replay of it, log-densities computed.

    With several particles everything has a leading dimension ``[S]`` outside the data plate.

    Raises:
        ValueError: Inside ``Temperature``; at a guide site that cannot be reparametrised.
    """
    if particles > 1:
        outer = pyro.plate("particles", particles, dim=-2)
        model, guide = outer(model), outer(guide)
    with InsideObjective():
        model_trace, guide_trace = get_importance_trace(
            "flat", math.inf, model, guide, (batch,), {}
        )
    for name, site in guide_trace.iter_stochastic_nodes():
        if torch.is_grad_enabled() and not site["fn"].has_rsample:
            raise ValueError(
                f"guide site '{name}' cannot be reparametrised ({type(site['fn']).__name__}): "
                "its score-function gradient would be missing."
            )
    return model_trace, guide_trace


def log_weights(model_trace: Trace, guide_trace: Trace, batch: Batch) -> Tensor:
    """log p(x, z) - log q(z | x) per particle and datum, ``[S, B]`` or ``[B]`` [nats].

    The subsampling factor is divided out: it never enters a logarithm.

    Raises:
        ValueError: If a latent lies outside the data plate.
    """
    total: Any = 0.0
    for trace, sign in ((model_trace, 1.0), (guide_trace, -1.0)):
        for name, site in trace.nodes.items():
            if site["type"] != "sample":
                continue
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
            kls[name] = site["log_prob"] - prior["log_prob"]
            sampled.append(name)
    return kls, sampled


class Objective(ELBO):
    """A bound with a ``differentiable_loss``: its negative, summed over the data set [nats].

    Args:
        particles: S, Monte-Carlo draws per datum.

    Raises:
        ValueError: If ``particles`` is below 1.
    """

    def __init__(self, particles: int = 1) -> None:
        if particles < 1:
            raise ValueError(f"particles={particles} must be at least 1.")
        super().__init__(num_particles=particles, vectorize_particles=True)
        self.sampled_sites: list[str] = []

    def _get_trace(self, model: Callable, guide: Callable, args: Any, kwargs: Any) -> Any:
        (batch,) = args
        return traces(model, guide, batch, self.num_particles)

    def bound(self, model_trace: Trace, guide_trace: Trace, batch: Batch) -> Tensor:
        """The quantity to maximise, summed over the data set [nats]."""
        raise NotImplementedError

    def differentiable_loss(self, model: Callable, guide: Callable, batch: Batch) -> Tensor:
        model_trace, guide_trace = traces(model, guide, batch, self.num_particles)
        return -self.bound(model_trace, guide_trace, batch)

    def loss(self, model: Callable, guide: Callable, batch: Batch) -> float:
        with torch.no_grad():
            return self.differentiable_loss(model, guide, batch).item()

    def loss_and_grads(self, model: Callable, guide: Callable, batch: Batch) -> float:
        loss = self.differentiable_loss(model, guide, batch)
        if loss.requires_grad:
            loss.backward()
        return loss.item()


class Elbo(Objective):
    """E_q [log p(x, z) - log q(z | x)], by sampling: Pyro's ``Trace_ELBO``."""

    def bound(self, model_trace: Trace, guide_trace: Trace, batch: Batch) -> Tensor:
        return (_sum(model_trace) - _sum(guide_trace)) / self.num_particles


def _sum(trace: Trace) -> Any:
    return sum(site["log_prob"].sum() for site in trace.nodes.values() if site["type"] == "sample")


class LogJoint(Elbo):
    """log p(x, z) at the point guide's z. It is not a bound on log p(x)."""


class AnalyticKL(Objective):
    """E_q log p(x | z) - KL(q || p), each site's KL in closed form where it is registered.

    References:
        Kingma & Welling (2014), the second of their two estimators.
    """

    def bound(self, model_trace: Trace, guide_trace: Trace, batch: Batch) -> Tensor:
        kls, self.sampled_sites = site_kls(model_trace, guide_trace)
        reconstruction = model_trace.nodes["x"]["log_prob"].sum()
        divergence: Any = sum(kl.sum() for kl in kls.values())
        return (reconstruction - divergence) / self.num_particles


class STL(Objective):
    """Sticking the landing: the ELBO, with log q seen through z alone in the gradient.

    The score of q, zero on average, is left out; where q can reach p(z | x), the gradient's noise
    vanishes with the gap.

    References:
        Roeder, Wu & Duvenaud (2017).
    """

    def bound(self, model_trace: Trace, guide_trace: Trace, batch: Batch) -> Tensor:
        log_q: Any = 0.0
        for _, site in guide_trace.iter_stochastic_nodes():
            log_prob = detached(site["fn"]).log_prob(site["value"])
            log_q = log_q + scale_and_mask(log_prob, scale=site["scale"], mask=site["mask"]).sum()
        return (_sum(model_trace) - log_q) / self.num_particles


class IWAE(Objective):
    """log of the mean of S importance weights per datum; rises to log p(x) with S.

    References:
        Burda, Grosse & Salakhutdinov (2016).
    """

    def bound(self, model_trace: Trace, guide_trace: Trace, batch: Batch) -> Tensor:
        log_w = log_weights(model_trace, guide_trace, batch)
        per_datum = log_w.reshape(self.num_particles, -1).logsumexp(0)
        bound = per_datum - math.log(self.num_particles)
        return bound.sum() * (batch.size / len(batch.index))


OBJECTIVES: dict[str, type[Objective]] = {
    "elbo": Elbo,
    "elbo_analytic_kl": AnalyticKL,
    "stl": STL,
    "iwae": IWAE,
    "log_joint": LogJoint,
}


def default_objective(guide: str) -> str:
    """The objective a guide is trained with unless another is asked for."""
    return {"prior": "iwae", "point": "log_joint"}.get(guide, "elbo")


def check_objective(guide: str, objective: str) -> None:
    """Refuse an objective that does not fit the guide.

    Raises:
        ValueError: If it is unknown, or does not fit; names those that do.
    """
    if guide == "point":
        allowed = ["log_joint"]
    else:
        allowed = [name for name in OBJECTIVES if name != "log_joint"]
    if objective not in allowed:
        problem = "does not fit" if objective in OBJECTIVES else "is unknown; it cannot train"
        raise ValueError(
            f"objective '{objective}' {problem} guide '{guide}', which takes {', '.join(allowed)}."
        )
