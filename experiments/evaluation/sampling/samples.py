"""Draws from a model: samples, completions, interpolations and traversals."""

import inspect
from contextlib import nullcontext
from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn

from experiments.data import Data
from experiments.errors import UsageError
from experiments.evaluation.bounds import encode, reconstruct
from experiments.evaluation.sampling.coordinates import FromCoordinates, ToCoordinates
from experiments.evaluation.sampling.reconstruction import mean_at, row_means
from experiments.inference.checks.rows import check_local
from experiments.inference.checks.simulations import check_simulates
from experiments.inference.frozen import fit_rows
from experiments.inference.handlers import ObservePixels, Temperature
from guides import allowed_guides
from guides.full_rank import FullRank
from guides.mean_field import MeanField
from ppl_models.batch import Batch
from ppl_models.coordinates import bare, family, is_free
from ppl_models.parameters import own_parameters
from ppl_models.program import closed_form
from ppl_models.random_numbers import forked_rng, seeded
from ppl_models.sites import describe, observation, prior_trace, request, request_alike


@torch.no_grad()
def prior_means(model: nn.Module, count: int, temperature: float = 1.0, seed: int = 0) -> Tensor:
    """E[x | z] for latents drawn at a temperature, ``[count, *row_shape]``.

    Raises:
        ValueError: If the model has a factor, which draws from the prior ignore; if a prior takes
            no temperature.
    """
    check_simulates(model, "sampling from the prior")
    drawn = Temperature(temperature, tuple(describe(model).observed))
    asked = request(model, count)
    with seeded(seed), drawn, own_parameters(model):
        trace = poutine.trace(model).get_trace(asked)
    return row_means(trace.nodes[observation(model)])


def is_plane(model: nn.Module) -> bool:
    """Whether the only latent is z, a standard normal vector of two."""
    if describe(model).latents != {"z": torch.Size([2])}:
        return False
    prior = bare(prior_trace(model).nodes["z"]["fn"])
    standard = isinstance(prior, dist.Normal)
    return standard and bool((prior.loc == 0).all() and (prior.scale == 1).all())


def latent_grid(model: nn.Module, side: int = 15) -> Tensor:
    """E[x | z] over a grid of the prior's quantiles, where z ``is_plane``.

    Returns:
        ``[side^2, *event_shape]``, the first row at the highest z_2.
    """
    like = prior_trace(model).nodes["z"]["value"]
    quantiles = (torch.arange(side, dtype=like.dtype, device=like.device) + 0.5) / side
    axis = torch.special.ndtri(quantiles)
    z = torch.cartesian_prod(axis.flip(0), axis).flip(1)
    with torch.no_grad():
        return mean_at(model, {"z": z}, request_alike(model, len(z)))


@torch.no_grad()
def complete(model: Any, data: Data, mask: Tensor, seed: int = 0) -> tuple[Tensor, dict[str, Any]]:
    """E[x | z*] at the mean z* of q(z | observed pixels), ``[N, *event_shape]``.

    The model's own posterior where it takes a mask; elsewhere q is fitted to the observed pixels
    alone, a row per image: the full-rank guide where the model takes it, or the mean-field guide.

    Args:
        model: p.
        data: the images.
        mask: true where a pixel is observed, ``[*event_shape]``.
        seed: seed of the draws with which q is fitted.

    Returns:
        The completed images, and what inferred them, as fields of a protocol.
    """
    rows = data.fixed().like(model)
    batch = next(rows.batches(len(rows)))
    exact = closed_form(model, "posterior")
    if exact and "observed" in inspect.signature(exact).parameters:
        (name,) = describe(model).latents
        latents = {name: model.posterior(batch.only, observed=mask).mean}
        return mean_at(model, latents, batch), {"estimator": "exact", "local_steps": None}
    guide_class = FullRank if "full_rank" in allowed_guides(model) else MeanField
    guide = guide_class(model, size=len(rows))
    hidden = ObservePixels(mask, observation(model))
    with seeded(seed), hidden:
        fit_rows(model, guide, rows)
    seen = hidden if describe(model).summed else nullcontext()
    with seen:  # hidden pixels must not inform latents that are summed out
        shown = reconstruct(model, guide, batch)
    return shown, {"estimator": type(guide).__name__, "local_steps": guide.local_steps}


@torch.no_grad()
def aggregate_means(model: Any, guide: nn.Module, data: Data, count: int, seed: int = 0) -> Tensor:
    """E[x | z] for z from the aggregate posterior: q(z | x) of rows drawn from the data.

    Returns:
        ``[count, *event_shape]``.
    """
    check_local(model, "the aggregate posterior")
    with seeded(seed):
        rows = torch.randint(len(data), (count,)).to(data.pixels.device)
        batch = data.batch(rows)
        trace = poutine.trace(guide).get_trace(batch)
    latents = {name: trace.nodes[name]["value"] for name in describe(model).latents}
    return mean_at(model, latents, batch)


def straight(a: Tensor, b: Tensor, steps: int) -> Tensor:
    """Points on the line from ``a`` to ``b``, both included, ``[steps, *shape]``."""
    weight = torch.linspace(0, 1, steps, dtype=a.dtype, device=a.device)
    return a + weight.reshape(-1, *(1,) * a.ndim) * (b - a)


def spherical(a: Tensor, b: Tensor, steps: int) -> Tensor:
    """Points on the arc from ``a`` to ``b``, both included, ``[steps, *shape]``.

    The direction turns at constant speed and the length changes evenly, so the points stay as far
    from the origin as draws of the prior are. Opposite or zero ends leave no arc: the line is
    taken.

    References:
        Shoemake (1985), slerp; White (2016), for latent spaces.
    """
    lengths = a.norm(), b.norm()
    cosine = ((a / lengths[0]) * (b / lengths[1])).sum().clamp(-1, 1)
    angle = cosine.acos()
    if not 1e-4 <= angle <= torch.pi - 1e-4:  # NaN where an end is zero
        return straight(a, b, steps)
    weight = torch.linspace(0, 1, steps, dtype=a.dtype, device=a.device)
    weight = weight.reshape(-1, *(1,) * a.ndim)
    direction = (
        ((1 - weight) * angle).sin() * a / lengths[0] + (weight * angle).sin() * b / lengths[1]
    ) / angle.sin()
    return direction * (lengths[0] + weight * (lengths[1] - lengths[0]))


@torch.no_grad()
def interpolations(
    model: Any, guide: nn.Module, data: Data, pair: tuple[int, int], steps: int
) -> dict[str, Tensor]:
    """E[x | z] between the encodings of a pair of rows, on the line and on the arc.

    Both are lines and arcs in the unconstrained coordinates of the prior. The ``steps`` on the way
    include the ends.

    Returns:
        ``[steps, *event_shape]`` each, ``straight`` and ``spherical``.

    Raises:
        UsageError: If a latent has no unconstrained coordinates.
    """
    ends = data.batch(torch.tensor(pair, device=data.pixels.device))
    latents = encode(guide, ends, model)
    nearer = (2 * torch.arange(steps) >= steps).long()  # a step is given what its nearer end is
    given = {name: rows[nearer.to(rows.device)] for name, rows in ends.given.items()}
    batch = Batch.draw(steps, data.pixels.device)._replace(given=given)
    try:
        with ToCoordinates(latents) as reader, own_parameters(model):
            poutine.condition(model, data=latents)(ends)
    except NotImplementedError as error:
        raise UsageError(
            f"an interpolation needs unconstrained coordinates of every latent: {error}."
        ) from error
    shown = {}
    for way in (straight, spherical):
        at = {name: way(u[0], u[1], steps) for name, u in reader.found.items()}
        with FromCoordinates(at) as walk, own_parameters(model):
            model(batch)
        shown[way.__name__] = mean_at(model, walk.found, batch)
    return shown


def _spread(prior: Any) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of a prior, ``[M]``; 0 and 1 where there is none."""
    try:
        mean, sd = prior.mean[0], prior.variance[0].sqrt()
    except NotImplementedError:
        with forked_rng():
            draws = prior.sample((1000,))[:, 0]
        mean, sd = draws.mean(0), draws.std(0)
    fine = mean.isfinite() & sd.isfinite()
    return mean.where(fine, torch.zeros_like(mean)), sd.where(fine, torch.ones_like(sd))


@torch.no_grad()
def traversals(model: Any, z: Tensor, steps: int, like: Batch | None = None) -> Tensor:
    """E[x | z] as one latent at a time varies, with the others fixed.

    The first ten latents vary, from -3 to 3 standard deviations of the prior around its mean.

    Args:
        model: p, with one vector latent.
        z: values of the other latents, ``[M]``.
        steps: images per latent.
        like: a row whose ``given`` all images have.

    Returns:
        ``[min(M, 10), steps, *event_shape]``.

    Raises:
        UsageError: If the prior is not on the real line.
    """
    ((name, shape),) = describe(model).latents.items()
    if len(shape) != 1:
        raise UsageError(
            f"traversals need a vector; '{name}' has the shape {list(shape)}: "
            "use --of interpolation or --of aggregate."
        )
    prior = prior_trace(model).nodes[name]["fn"]
    if not is_free(prior):
        raise UsageError(
            f"traversals need the real line; '{name}' ({family(prior)}) leaves its support "
            "there: use --of interpolation or --of aggregate."
        )
    values = torch.linspace(-3, 3, steps, dtype=z.dtype, device=z.device)
    count, (mean, sd) = min(len(z), 10), _spread(prior)
    walked = z.repeat(count, steps, 1)
    for k in range(count):
        walked[k, :, k] = mean[k] + sd[k] * values
    batch = request_alike(model, count * steps, like.given if like else {})
    shown = mean_at(model, {name: walked.flatten(0, 1)}, batch)
    return shown.unflatten(0, (count, steps))
