"""What is maximised: bounds on log p(x) as Pyro ELBOs, free of synchronisation inside a step.

A plate rescales a minibatch by N / B, so every objective estimates a sum over the data set, in
nats; ``SVI`` divides by N.
"""

import math
from collections.abc import Callable
from typing import Any

from pyro.poutine.trace_struct import Trace
from torch import Tensor

from experiments.inference.free_bits import FreeBits
from experiments.inference.miselbo import Miselbo
from experiments.inference.objective import Objective
from experiments.inference.renyi import Renyi
from experiments.inference.traces import log_weights, seen_through_z, site_kls, traces
from ppl_models.names import unknown
from ppl_models.program import Batch

__all__ = [
    "IWAE",
    "OBJECTIVES",
    "ONLY",
    "STL",
    "AnalyticKL",
    "DReG",
    "Elbo",
    "FreeBits",
    "LogJoint",
    "Miselbo",
    "Objective",
    "Renyi",
    "check_objective",
    "default_objective",
    "log_weights",
    "site_kls",
    "traces",
]


class Elbo(Objective):
    r"""The evidence lower bound, by sampling: Pyro's ``Trace_ELBO``.

    .. math::
        E_{q(z \mid x)} [\log p(x, z) - \log q(z \mid x)]
    """

    def bound(self, model_trace: Trace, guide_trace: Trace, batch: Batch) -> Tensor:
        return (_sum(model_trace) - _sum(guide_trace)) / self.num_particles


def _sum(trace: Trace) -> Any:
    return sum(site["log_prob_sum"] for site in trace.nodes.values() if site["type"] == "sample")


class LogJoint(Elbo):
    r"""The joint density at the point guide's z. It is not a bound on log p(x).

    .. math::
        \log p(x, \hat z)
    """


class AnalyticKL(Objective):
    r"""The evidence lower bound, each site's KL in closed form where it is registered.

    .. math::
        E_{q(z \mid x)} \log p(x \mid z) - \mathrm{KL}(q(z \mid x) \,\|\, p(z))

    References:
        Kingma & Welling (2014), the second of their two estimators.
    """

    latents = False

    def bound(self, model_trace: Trace, guide_trace: Trace, batch: Batch) -> Tensor:
        kls, self.sampled_sites = site_kls(model_trace, guide_trace)
        reconstruction = model_trace.nodes["x"]["log_prob_sum"]
        divergence: Any = sum(kl.sum() for kl in kls.values())
        bound = reconstruction - divergence
        return bound if self.num_particles == 1 else bound / self.num_particles


class STL(Objective):
    r"""Sticking the landing: the ELBO, with log q seen through z alone in the gradient.

    .. math::
        E_{q_\phi(z \mid x)} [\log p(x, z) - \log q_{\bar\phi}(z \mid x)],
        \quad \bar\phi = \phi \text{ held constant}

    The score of q, zero on average, is left out; where q can reach p(z | x), the gradient's noise
    vanishes with the gap.

    References:
        Roeder, Wu & Duvenaud (2017).
    """

    def differentiable_loss(self, model: Callable, guide: Callable, batch: Batch) -> Tensor:
        model_trace, guide_trace = traces(model, guide, batch, self.num_particles)
        log_q = _sum(seen_through_z(guide, guide_trace))
        return (log_q - _sum(model_trace)) / self.num_particles


class IWAE(Objective):
    r"""log of the mean of S importance weights per datum; rises to log p(x) with S.

    .. math::
        E_{z_1, \dots, z_S \sim q} \log \frac1S \sum_{s=1}^S \frac{p(x, z_s)}{q(z_s \mid x)}

    References:
        Burda, Grosse & Salakhutdinov (2016).
    """

    def bound(self, model_trace: Trace, guide_trace: Trace, batch: Batch) -> Tensor:
        log_w = log_weights(model_trace, guide_trace, batch)
        per_datum = log_w.reshape(self.num_particles, -1).logsumexp(0)
        bound = per_datum - math.log(self.num_particles)
        return bound.sum() * (batch.size / len(batch.index))


class DReG(Objective):
    r"""The doubly reparametrised gradient of ``iwae``; its value is that bound.

    .. math::
        \nabla_\phi = \sum_s \Big( \frac{w_s}{\sum_j w_j} \Big)^2
        \frac{\partial \log w_s}{\partial z_s} \frac{\partial z_s}{\partial \phi},
        \quad w_s = \frac{p(x, z_s)}{q(z_s \mid x)}

    The score of q is rewritten through z: q's parameters receive squared normalised weights
    times the gradient by z, p's parameters the plain ones. Unlike those of ``iwae``, the
    gradients of q do not drown in noise as S grows.

    References:
        Tucker, Lawson, Gu & Maddison (2019).
    """

    def differentiable_loss(self, model: Callable, guide: Callable, batch: Batch) -> Tensor:
        model_trace, guide_trace = traces(model, guide, batch, self.num_particles)
        log_w = log_weights(model_trace, seen_through_z(guide, guide_trace), batch)
        log_w = log_w.reshape(self.num_particles, -1)
        weights = log_w.detach().softmax(0)
        for _, site in guide_trace.iter_stochastic_nodes():
            if site["value"].requires_grad:
                site["value"].register_hook(_times(weights, site["fn"].event_dim))
        bound = log_w.detach().logsumexp(0) - math.log(self.num_particles)
        surrogate = (weights * (log_w - log_w.detach())).sum(0)  # zero, with the gradient
        return -(bound + surrogate).sum() * (batch.size / len(batch.index))


def _times(weights: Tensor, event_dim: int) -> Callable[[Tensor], Tensor]:
    """What multiplies the gradient of a latent ``[S, B, *event]`` by weights ``[S, B]``."""

    def hook(gradient: Tensor) -> Tensor:
        factor = weights.reshape(gradient.shape[: gradient.ndim - event_dim])
        return gradient * factor.reshape(*factor.shape, *(1,) * event_dim)

    return hook


OBJECTIVES: dict[str, type[Objective]] = {
    "elbo": Elbo,
    "elbo_analytic_kl": AnalyticKL,
    "elbo_free_bits": FreeBits,
    "stl": STL,
    "iwae": IWAE,
    "dreg": DReG,
    "renyi": Renyi,
    "miselbo": Miselbo,
    "log_joint": LogJoint,
}

ONLY = {"point": "log_joint", "mixture": "miselbo"}
"""Guides that take one objective, and that no other guide takes."""


def default_objective(guide: str) -> str:
    """The objective a guide is trained with unless another is asked for."""
    return {"prior": "iwae", **ONLY}.get(guide, "elbo")


def check_objective(guide: str, objective: str) -> None:
    """Refuse an objective that does not fit the guide.

    Raises:
        ValueError: If it is unknown, or does not fit; names those that do.
    """
    others = [name for name in OBJECTIVES if name not in ONLY.values()]
    allowed = [ONLY[guide]] if guide in ONLY else others
    if objective not in allowed:
        if objective not in OBJECTIVES:
            raise ValueError(unknown("objective", objective, allowed))
        raise ValueError(
            f"objective '{objective}' does not fit guide '{guide}', which takes "
            f"{', '.join(allowed)}."
        )
