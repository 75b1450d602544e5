"""Effect handlers that change how a program runs without changing its code."""

from collections.abc import Mapping
from typing import Any

import pyro.distributions as dist
import torch
from pyro.poutine import runtime
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import constraints

from ppl_models.coordinates import bare, core, is_product
from ppl_models.random_numbers import seeded
from ppl_models.sites import is_summed


def _is_latent(msg: Message) -> bool:
    return not (msg["is_observed"] or site_is_subsample(msg) or msg["name"] == "x")


class InsideObjective(Messenger):
    """Marks that an objective is being computed, for handlers that must not take part in it."""


class TemperKL(Messenger):
    """Scale the log-densities of all latents by beta: E log p(x|z) + beta (ELBO - E log p(x|z)).

    A latent that is summed out is not scaled: it is part of log p(x|z) and of log p(z).

    Args:
        beta: a number or a scalar tensor, 0 or more; may be changed between steps.
    """

    def __init__(self, beta: float | Tensor = 1.0) -> None:
        super().__init__()
        self.beta = beta

    def _pyro_sample(self, msg: Message) -> None:
        if _is_latent(msg) and not msg["infer"].get("summed"):
            msg["untempered"] = msg.get("untempered", msg["scale"])
            msg["scale"] = msg["scale"] * self.beta


class Temperature(Messenger):
    """Draw every latent from its prior with the standard deviation multiplied by t.

    It acts on prior sites that are neither observed nor replayed; densities stay those of the
    plain prior. An objective refuses to run inside it.

    Args:
        t: the temperature, above 0.
        observed: names of observed sites, which are drawn without a temperature.

    Raises:
        ValueError: If ``t`` is not positive; at a prior that is not on the real line; inside an
            objective.
    """

    def __init__(self, t: float, observed: tuple[str, ...] = ("x",)) -> None:
        super().__init__()
        if not t > 0:
            raise ValueError(f"temperature={t} must be above 0.")
        self.t, self.observed = t, observed

    def _pyro_sample(self, msg: Message) -> None:
        if any(isinstance(handler, InsideObjective) for handler in runtime._PYRO_STACK):
            # it would change the draws of q, not those of p
            raise ValueError("Temperature is for drawing from a model, not for an objective.")
        if self.t == 1 or not _is_latent(msg) or msg["value"] is not None:
            return
        if msg["name"] in self.observed:
            return
        prior = msg["fn"]
        if core(prior.support) is not constraints.real:
            raise ValueError(f"a temperature needs a prior on the real line, not {prior}.")
        # The value is replaced, not the distribution: an outer replay still takes effect.
        msg["value"] = prior.mean + self.t * (prior.rsample() - prior.mean)
        msg["done"] = True


class At(Messenger):
    """Set some sites to these values instead of draws; their densities do not change."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Message) -> None:
        if msg["name"] in self.values:
            msg["value"], msg["done"] = self.values[msg["name"]], True


def centre_of(distribution: Any) -> Tensor:
    """The mean; for a flow, the image of its base's mean; the likeliest of several classes.

    Where no mean is known, as of a relaxed Categorical, it is the average of 1000 draws.
    """
    if isinstance(bare(distribution), dist.Categorical):
        return distribution.mode
    try:
        return _image_of_mean(distribution)
    except NotImplementedError:
        with seeded(0):
            total: Any = sum(distribution.sample((50,)).sum(0) for _ in range(20))
        return total / 1000


def _image_of_mean(distribution: Any) -> Tensor:
    if not isinstance(distribution, dist.TransformedDistribution):
        return distribution.mean
    z = _image_of_mean(distribution.base_dist)
    for transform in distribution.transforms:
        z = transform(z)
    return z


class Mean(Messenger):
    """Set every latent that is not summed out to its mean instead of a draw."""

    def _pyro_sample(self, msg: Message) -> None:
        if _is_latent(msg) and msg["value"] is None and not is_summed(msg):
            msg["value"], msg["done"] = centre_of(msg["fn"]), True


class ObservePixels(Messenger):
    """Condition on some pixels only: the others drop out of log p(x | z).

    Args:
        mask: true where a pixel is observed, the shape of one observation.
        site: the name of what is observed.

    Raises:
        ValueError: At a likelihood that is not a product over pixels, given z.
    """

    def __init__(self, mask: Tensor, site: str = "x") -> None:
        super().__init__()
        self.mask, self.site = mask, site

    def _pyro_sample(self, msg: Message) -> None:
        if msg["name"] != self.site:
            return
        likelihood = msg["fn"]
        if not is_product(likelihood):
            raise ValueError(f"the density of {likelihood} is not a product over pixels, given z.")
        mask = torch.as_tensor(self.mask, device=likelihood.mean.device)
        event_dim = likelihood.reinterpreted_batch_ndims
        msg["fn"] = likelihood.base_dist.mask(mask).to_event(event_dim)
