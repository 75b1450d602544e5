"""Warnings about training that fails although all numbers are finite."""

from typing import Any

import torch
from pyro.poutine.trace_struct import Trace
from torch import Tensor
from torch.distributions import Normal

from experiments.inference.checks.sites import sites_of
from experiments.inference.guard.diagnosis import untouched
from experiments.inference.traces import kl_of, traces, within
from guides.point import Point
from guides.prior import Prior
from ppl_models.batch import Batch
from ppl_models.coordinates import bare, is_point
from ppl_models.sites import is_local

LEAST_KL = 0.01
"""A latent with a smaller KL has collapsed [nats per data point]."""

NOISE = (1e-3, 1e3)
"""Range of plausible sigma, in units of the data's standard deviation."""


@torch.no_grad()
def collapse_warnings(model: Any, guide: Any, batch: Batch) -> dict[str, str]:
    """Warnings about collapsed sites or parameters, from one batch.

    A latent has collapsed if the guide returns its prior for all data, and a Gaussian likelihood
    if its sigma is far from the scale of the data. The pair is run once in its present mode; the
    pair, its buffers and the random state do not change.

    Args:
        model: p(x, z).
        guide: q(z | x); the KL of latents is not checked if it is the prior or gives points.
        batch: rows of the data.
    """
    with untouched(model, guide):
        p, q = traces(model, guide, batch)
    warnings: dict[str, str] = {}
    if not isinstance(guide, (Prior, Point)):
        for name, site in q.iter_stochastic_nodes():
            if not is_local(site) or name not in p.nodes or is_point(site["fn"]):
                continue  # of a guide of Pyro's, whose density lies in another site
            kl = mean_kl(name, p, q, len(batch.index))
            if kl < LEAST_KL:
                warnings[name] = (
                    f"{name} carries {kl:.1g} nats: its posterior equals its prior "
                    "(posterior collapse): train longer, in smaller batches, or with --kl-anneal"
                )
    for site in sites_of(p, observed=True):
        warnings |= noise_warnings(model, site["fn"], site["value"])
    return warnings


def mean_kl(name: str, model_trace: Trace, guide_trace: Trace, rows: int) -> float:
    """KL(q || p) of a whole latent, in closed form or at its sample [nats per data point]."""
    site, prior = guide_trace.nodes[name], model_trace.nodes[name]
    try:
        kl = kl_of(name, model_trace, guide_trace)
    except NotImplementedError:
        z = site["value"]
        kl = within(prior, site["fn"].log_prob(z)) - prior["fn"].log_prob(z)
    return float(kl.sum()) / rows


def noise_warnings(model: Any, likelihood: Any, x: Tensor) -> dict[str, str]:
    """Warnings about the sigma of a Gaussian likelihood, by the parameter's name."""
    likelihood = bare(likelihood)
    if not isinstance(likelihood, Normal):
        return {}
    scale, sigma = scale_of_data(x), likelihood.scale
    least, most = float(sigma.min()), float(sigma.max())
    name = next((n for n, _ in model.named_parameters() if n.endswith("log_sigma")), "x")
    if least < NOISE[0] * scale:
        words = (
            f"sigma = {least:.1g} at data of scale {scale:.1g}: a Gaussian's likelihood is "
            "unbounded on constant pixels and on data of full rank (add noise with "
            "--dequantize, or take a likelihood with a least sigma, gaussian_per_pixel)"
        )
    elif most > NOISE[1] * scale:
        words = (
            f"sigma = {most:.1g} at data of scale {scale:.1g}: the model explains everything "
            "as noise (a smaller --lr or a warm-up may help)"
        )
    else:
        return {}
    return {name: words}


def scale_of_data(x: Tensor) -> float:
    """The data's standard deviation; for constant data their size, or one."""
    deviation = float(x.double().std()) if x.numel() > 1 else 0.0
    return deviation or float(x.abs().max()) or 1.0
