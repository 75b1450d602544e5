"""How a model takes several particles: in an extra dimension, or along the batch."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pyro
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from torch import Tensor, nn

from experiments.errors import OnlyAtOwnDraws, said_by
from experiments.inference.checks.rows import latents_at, rows_at
from experiments.inference.checks.sites import (
    densities,
    densities_at,
    name_of,
    run_pair,
    same_density,
)
from experiments.inference.handlers import At
from ppl_models.sites import evaluating


def takes_particles(model: Any) -> bool:
    """Whether a model takes particles in an extra dimension."""
    return getattr(poutine.unwrap(model), "vectorises", True)


def spread(
    model: Any, programs: Sequence[Any], batch: Any, particles: int, depth: int
) -> tuple[list[Any], Any]:
    """Programs and a batch for several particles: in a plate outside of all others, or in a row.

    Args:
        model: p, which decides.
        programs: model, guide, or both.
        batch: the batch for one particle.
        particles: number of particles.
        depth: number of plate dimensions.
    """
    if takes_particles(model):
        outer = pyro.plate("particles", particles, dim=-1 - depth)
        return [outer(program) for program in programs], batch
    scaled = [poutine.scale(program, particles) for program in programs]
    return scaled, batch.repeated(particles)


def settle_particles(model: Any, guide: Any, batch: Any, depth: int) -> None:
    """Find out how a model takes particles without changing their densities.

    A model that does not gets ``vectorises = False``: particles are then placed along the batch.

    Raises:
        ValueError: If particles affect each other there, too.
    """
    bare = poutine.unwrap(model)
    with evaluating(bare), evaluating(poutine.unwrap(guide)):
        reason = _side_by_side(model, guide, batch, depth)
        if reason is None:
            return
        along = hasattr(batch, "repeated") and _in_a_row(model, guide, batch) is None
    if not (along and isinstance(bare, nn.Module)):
        raise ValueError(reason)
    bare.vectorises = False  # type: ignore[assignment]


def _side_by_side(model: Any, guide: Any, batch: Any, depth: int) -> str | None:
    """Why particles in an extra dimension have other densities than alone; None if they agree."""
    outer, at = pyro.plate("particles", 2, dim=-1 - depth), -1 - depth
    try:
        pair = run_pair(outer(model), outer(guide), batch)
        densities(pair[0])
    except Exception as error:  # a shape error, as the program's author would see it
        programs = f"{name_of(model)} or {name_of(guide)}"
        return f"{programs} does not take two particles: {said_by(error)[:150]}."
    return _changed(model, guide, batch, pair, lambda x, site, event, k: x.select(at - event, k))


def _in_a_row(model: Any, guide: Any, batch: Any) -> str | None:
    """The same for particles along the batch."""
    pair = run_pair(model, guide, batch.repeated(2))
    return _changed(model, guide, batch, pair, partial(rows_at, number=len(batch.index)))


def _changed(
    model: Any, guide: Any, batch: Any, pair: tuple[Trace, Trace], part: Callable[..., Tensor]
) -> str | None:
    """Why one of two particles changes the density of the other; None if neither does.

    ``pair`` are the traces of model and guide; ``part`` takes a tensor, its site, its number of
    event dimensions and k, and returns the part that belongs to particle k.
    """
    programs = ((model, pair[0], densities_at), (guide, pair[1], partial(_guide_at, model)))
    for k in range(2):
        for program, trace, run_at in programs:
            parts = {
                name: part(site["log_prob"], site, 0, k) for name, site in densities(trace).items()
            }
            alone = run_at(program, latents_at(trace, part, k), batch)
            if alone and (name := _differs(parts, alone)):
                return (
                    f"{name_of(program)} mixes particles: beside another one the density of "
                    f"'{name}' changes. Make every row's density its own."
                )
    return None


def _guide_at(model: Any, guide: Any, latents: dict[str, Tensor], batch: Any) -> dict[str, Any]:
    """The guide's sites at these latents; none of a guide that differs from run to run, or whose
    density is known at its own draws alone, as that of a planar flow is."""
    try:
        first, second = (
            densities(run_pair(model, At(latents)(guide), batch)[1]) for _ in range(2)
        )
    except (KeyError, NotImplementedError, OnlyAtOwnDraws):
        return {}
    return {} if _differs({n: site["log_prob"] for n, site in first.items()}, second) else first


def _differs(parts: dict[str, Tensor], alone: dict[str, Any]) -> str | None:
    """The first site whose density differs from that of the particle alone."""
    for name, part in parts.items():
        if not same_density(part, alone[name]["log_prob"]):
            return name
    return None
