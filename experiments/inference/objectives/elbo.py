"""The evidence lower bound, by sampling and with KLs in closed form."""

from collections.abc import Callable
from typing import Any

from pyro.poutine.trace_struct import Trace
from torch import Tensor

from experiments.inference.objectives.base import Objective
from experiments.inference.objectives.through_z import (
    along_draws,
    at_fixed_draws,
    is_simple,
    seen_through_z,
)
from experiments.inference.traces import log_likelihood, site_kls, traces
from ppl_models.batch import Batch


class ELBO(Objective):
    r"""The evidence lower bound, by sampling: Pyro's ``Trace_ELBO``.

    .. math::
        E_{q(z \mid x)} [\log p(x, z) - \log q(z \mid x)]
    """

    def bound(self, model_trace: Trace, guide_trace: Trace, batch: Batch) -> Tensor:
        return self.mean(model_trace.log_prob_sum() - guide_trace.log_prob_sum())


class LogJoint(ELBO):
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
        divergence: Any = sum(kl.sum() for kl in kls.values())
        return self.mean(log_likelihood(model_trace) - divergence)


class STL(Objective):
    r"""Sticking the landing: the ELBO with gradients of log q only through z.

    .. math::
        E_{q_\phi(z \mid x)} [\log p(x, z) - \log q_{\bar\phi}(z \mid x)],
        \quad \bar\phi = \phi \text{ held constant}

    The score of q, zero on average, is left out; where q can reach p(z | x), the gradient's noise
    vanishes with the gap. Where latents depend on each other or q is not Gaussian, model and guide
    run twice, and a guide whose second q differs (dropout, other noise) is refused.

    References:
        Roeder, Wu & Duvenaud (2017).
    """

    def differentiable_loss(self, model: Callable, guide: Callable, batch: Batch) -> Tensor:
        model_trace, guide_trace = traces(model, guide, batch, self.num_particles)
        if is_simple(guide, guide_trace, batch):
            log_q = seen_through_z(guide_trace).log_prob_sum()
            return self.mean(log_q - model_trace.log_prob_sum())
        p, q, leaves = at_fixed_draws(model, guide, batch, self.num_particles, guide_trace)
        log_p, log_q = p.log_prob_sum(), q.log_prob_sum()
        paths = along_draws(guide_trace, leaves, log_p - log_q)
        return self.mean(log_q.detach() - log_p - paths)
