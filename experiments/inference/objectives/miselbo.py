"""The ELBO of a mixture, with draws from every component."""

from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from torch import Tensor

from experiments.inference.checks.pair_check import check_once
from experiments.inference.checks.particles import spread, takes_particles
from experiments.inference.checks.sites import name_of, trace_of
from experiments.inference.handlers import InsideObjective
from experiments.inference.objectives.base import Objective
from experiments.inference.summation import SumOut, summed_out, unmasked
from guides import GUIDES
from guides.coordinates import Pushforward
from ppl_models.batch import Batch
from ppl_models.coordinates import bare
from ppl_models.parameters import own_parameters
from ppl_models.sites import is_deterministic

_even: WeakSet[Any] = WeakSet()
"""Guides whose mixtures have passed the check of equal weights."""


class Miselbo(Objective):
    r"""The multiple-importance-sampling ELBO: strata instead of draws of the component.

    .. math::
        \frac1S \sum_s E_{q_s} \Big[ \log p(x, z) - \log \frac1S \sum_j q_j(z \mid x) \Big]

    Every draw is weighted by the whole mixture (all-to-all). With ``strata`` below S, each step
    draws from a uniformly chosen subset of that size (some-to-all), which is unbiased and makes
    hundreds of components affordable.

    Args:
        particles: draws from every component.
        strata: components drawn from per step; 0 for all.

    Raises:
        ValueError: If ``strata`` is negative; in use, if the guide is no mixture of one latent
            with equal, fixed weights, or has a factor, or the model has an inner plate.

    References:
        Kviman, Melin, Koptagel, Elvira & Lagergren (2022); Hotti et al. (2024), some-to-all.
    """

    def __init__(self, particles: int = 1, strata: int = 0) -> None:
        super().__init__(particles)
        if strata < 0:
            raise ValueError(f"strata={strata} must be 0 or more.")
        self.strata = strata

    def differentiable_loss(self, model: Callable, guide: Callable, batch: Batch) -> Tensor:
        checked = check_once(model, guide, batch, particles=2)
        if checked.depth > 1:
            raise ValueError("miselbo is for models without plates inside that of the data.")
        with InsideObjective(), own_parameters(guide):
            trace = trace_of(guide, batch)
        latents = dict(trace.iter_stochastic_nodes())
        if len(latents) != 1:
            raise ValueError(
                f"miselbo takes one latent; {name_of(guide)} samples "
                f"{', '.join(latents) or 'nothing'}."
            )
        for factor in trace.observation_nodes:
            if not is_deterministic(trace.nodes[factor]):
                raise ValueError(
                    f"miselbo takes no factor in a guide, and {name_of(guide)} has '{factor}'."
                )
        ((name, site),) = latents.items()
        q = site["fn"]
        mixture = q.base_dist if isinstance(q, Pushforward) else q
        if not isinstance(mixture, dist.MixtureSameFamily):
            raise ValueError(f"miselbo is for mixtures, not {type(mixture).__name__}.")
        self._check_even(guide, mixture)
        u = self._strata(mixture)
        z = q.at(u) if isinstance(q, Pushforward) else u
        apart = takes_particles(model)
        (story,), rows = spread(model, [model], batch, len(z), depth=1)
        if checked.summed:
            story = SumOut(2 if apart else 1)(story)
        seen = trace.copy()
        seen.nodes[name] = {**site, "value": z if apart else z.flatten(0, 1)}
        with InsideObjective(), own_parameters(model):
            replayed = unmasked(trace_of(poutine.replay(story, trace=seen), rows))
        replayed.compute_log_prob()
        if checked.summed:
            replayed = summed_out(replayed)
        log_q = scale_and_mask(q.log_prob(z), scale=site["scale"], mask=site["mask"])
        return (log_q.sum() - replayed.log_prob_sum()) / len(z)

    def _check_even(self, guide: Any, mixture: Any) -> None:
        """Refuse a mixture of other components than normals of equal weight, once per guide."""
        program = poutine.unwrap(guide)
        if type(program) in GUIDES.values():
            return
        shares = mixture.mixture_distribution.probs
        if program not in _even:  # once: a graph cannot read values
            equal = torch.allclose(shares, shares.mean(-1, keepdim=True))
            if equal and type(bare(mixture.component_distribution)) is dist.Normal:
                _even.add(program)
        if program not in _even or shares.requires_grad:
            raise ValueError(
                "miselbo draws equally often from every component of a mixture: give it "
                "components Normal(...).to_event(1) with equal weights that are not trained."
            )

    def _strata(self, q: Any) -> Tensor:
        """Draws from the components, in coordinates, ``[particles * strata, B, M]``."""
        normals = q.component_distribution.base_dist
        loc, scale = normals.loc, normals.scale
        number = loc.shape[-2]
        if 0 < self.strata < number:
            chosen = torch.randperm(number, device=loc.device)[: self.strata]
            loc, scale = loc[..., chosen, :], scale[..., chosen, :]
        z = dist.Normal(loc, scale).rsample((self.num_particles,))
        return z.movedim(-2, 1).flatten(0, 1)
