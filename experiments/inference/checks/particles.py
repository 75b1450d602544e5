"""How a model takes several particles: in an extra dimension, or along the batch."""

from collections.abc import Callable
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor, nn

from experiments.errors import said_by
from experiments.inference.checks.sites import densities, name_of, run_pair
from ppl_models.sites import evaluating


def takes_particles(model: Any) -> bool:
    """Whether a model takes particles in an extra dimension."""
    return getattr(poutine.unwrap(model), "vectorises", True)


def settle_particles(model: Any, guide: Any, batch: Any, depth: int) -> None:
    """Find out how a model takes particles without changing their densities.

    A model that does not gets ``vectorises = False``: particles are then placed along the batch.

    Raises:
        ValueError: If particles affect each other there, too.
    """
    bare = poutine.unwrap(model)
    with evaluating(bare):
        reason = _side_by_side(model, guide, batch, depth)
        if reason is None:
            return
        if not hasattr(batch, "repeated") or _in_a_row(model, guide, batch) is not None:
            raise ValueError(reason)
    if not isinstance(bare, nn.Module):
        raise ValueError(reason)
    bare.vectorises = False  # type: ignore[assignment]


def _side_by_side(model: Any, guide: Any, batch: Any, depth: int) -> str | None:
    """Why particles in an extra dimension have other densities than alone; None if they agree."""
    outer, at = pyro.plate("particles", 2, dim=-1 - depth), -1 - depth
    try:
        p, _ = run_pair(outer(model), outer(guide), batch)
        densities(p)
    except Exception as error:  # a shape error, as the program's author would see it
        programs = f"{name_of(model)} or {name_of(guide)}"
        return f"{programs} does not take two particles: {said_by(error)[:150]}."
    return _changed(model, batch, p, lambda x, site, event, k: x.select(at - event, k))


def _in_a_row(model: Any, guide: Any, batch: Any) -> str | None:
    """The same for particles along the batch."""
    p, _ = run_pair(model, guide, batch.repeated(2))
    rows = len(batch.index)

    def part(x: Tensor, site: Any, event: int, k: int) -> Tensor:
        return x.narrow(_data_dim(site) - event, k * rows, rows)

    return _changed(model, batch, p, part)


def _data_dim(site: Any) -> int:
    return next((f.dim for f in site["cond_indep_stack"] if f.name == "data"), -1)


def _changed(model: Any, batch: Any, p: Trace, part: Callable[..., Tensor]) -> str | None:
    """Whether a density of one of two particles differs from that of the particle alone.

    Args:
        model: p.
        batch: of one particle.
        p: trace of both.
        part: of a tensor, its site, the number of its event dimensions: what belongs to one.
    """
    together = densities(p)
    for k in range(2):
        latents = {
            name: part(site["value"], site, site["fn"].event_dim, k)
            for name, site in p.iter_stochastic_nodes()
        }
        parts = {name: part(site["log_prob"], site, 0, k) for name, site in together.items()}
        if name := _differs(parts, model, latents, batch):
            return (
                f"{name_of(model)} mixes particles: beside another one the density of '{name}' "
                "changes. Make every row's density its own."
            )
    return None


def _differs(parts: Any, model: Any, latents: Any, batch: Any) -> str | None:
    """The first site whose density differs from that of the particle alone."""
    at = poutine.condition(model, data=latents)
    alone = densities(prune_subsample_sites(poutine.trace(at).get_trace(batch)))
    for name, part in parts.items():
        both, one = part.sum(), alone[name]["log_prob"].sum()
        if not torch.isclose(both, one, rtol=1e-3, atol=1e-3, equal_nan=True):
            return name
    return None
