"""How a model takes several particles: side by side, or one after the other in a long batch."""

from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.util import prune_subsample_sites
from torch import nn

from experiments.inference.checks.sites import densities, name_of, run_pair
from ppl_models.sites import evaluating

__all__ = ["settle_particles"]


def settle_particles(model: Any, guide: Any, batch: Any, depth: int) -> None:
    """See how two particles together have the densities that each of them has alone.

    A model that does not take them as a dimension of their own gets ``vectorises = False``:
    particles then follow each other in the batch.

    Raises:
        ValueError: If they change each other there, too.
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
    outer = pyro.plate("particles", 2, dim=-1 - depth)
    try:
        p, _ = run_pair(outer(model), outer(guide), batch)
        together = densities(p)
    except Exception as error:  # of sizes that do not fit, as the program's author would see it
        words = " ".join(str(error).partition("Trace Shapes")[0].split())
        return f"{name_of(model)} or {name_of(guide)} does not take two particles: {words[:150]}."
    for k in range(2):
        latents = {
            name: site["value"].select(-1 - depth - site["fn"].event_dim, k)
            for name, site in p.iter_stochastic_nodes()
        }
        parts = {n: s["log_prob"].select(-1 - depth, k) for n, s in together.items()}
        if changed := _differs(parts, model, latents, batch):
            return _mixed(model, changed)
    return None


def _in_a_row(model: Any, guide: Any, batch: Any) -> str | None:
    p, _ = run_pair(model, guide, batch.repeated(2))
    together, rows = densities(p), len(batch.index)
    for k in range(2):
        latents = {
            name: site["value"].narrow(_data_dim(site) - site["fn"].event_dim, k * rows, rows)
            for name, site in p.iter_stochastic_nodes()
        }
        parts = {
            n: s["log_prob"].narrow(_data_dim(s), k * rows, rows) for n, s in together.items()
        }
        if changed := _differs(parts, model, latents, batch):
            return _mixed(model, changed)
    return None


def _data_dim(site: Any) -> int:
    return next((f.dim for f in site["cond_indep_stack"] if f.name == "data"), -1)


def _differs(parts: Any, model: Any, latents: Any, batch: Any) -> str | None:
    """The first site whose density is another one where the particle is alone."""
    at = poutine.condition(model, data=latents)
    alone = densities(prune_subsample_sites(poutine.trace(at).get_trace(batch)))
    for name, part in parts.items():
        both, one = part.sum(), alone[name]["log_prob"].sum()
        if not torch.isclose(both, one, rtol=1e-3, atol=1e-3, equal_nan=True):
            return name
    return None


def _mixed(model: Any, name: str) -> str:
    return (
        f"{name_of(model)} mixes particles: beside another one the density of '{name}' changes. "
        "Make every row's density its own."
    )
