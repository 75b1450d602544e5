"""Checks of rows: what is drawn for each, equal numbers of them, densities of their own."""

from collections.abc import Callable
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from torch import Tensor
from torch.utils._pytree import tree_map

from experiments.inference.checks.sites import (
    data_dim,
    densities,
    densities_at,
    name_of,
    rescaled,
    run_pair,
    same_density,
)
from ppl_models import MODELS
from ppl_models.batch import Batch
from ppl_models.coordinates import bare, is_point
from ppl_models.sites import describe, evaluating, is_shown


def check_local(model: Any, what: str) -> None:
    """Refuse a model with global latents, of which a datum has no figure of its own."""
    program = poutine.unwrap(model)
    if type(program) in MODELS.values():
        return
    for name in describe(program).of_all_data:
        raise ValueError(
            f"{what} is computed per datum, but '{name}' of {type(program).__name__} is a global "
            "latent: only the ELBO of the whole training set is defined, which train reports."
        )


def check_batch(model: Any, batch: Any) -> None:
    """Refuse a batch whose tensors differ in length, or whose sites differ from the model's."""
    x, given = getattr(batch, "x", None), getattr(batch, "given", {})
    there = x if isinstance(x, dict) else {"x": x}
    for name, values in (*there.items(), *given.items()):
        if isinstance(values, Tensor) and len(values) != len(batch.index):
            raise ValueError(
                f"'{name}' has {len(values)} rows and batch.index {len(batch.index)}: every "
                "tensor of a batch has a row for each datum."
            )
    if not isinstance(x, dict):
        return
    sites = describe(model, None if is_shown(model) else batch)
    observed, summed = sites.observed, sites.summed
    for name in (*(observed.keys() - x - summed.keys()), *(x.keys() - observed)):
        word = "lacks" if name in observed else "has"
        raise ValueError(
            f"the batch {word} '{name}': {name_of(model)} observes {', '.join(observed)}, "
            f"batch.x has {', '.join(x) or 'nothing'}."
        )


def check_rows_apart(model: Any, trace: Trace, batch: Batch) -> None:
    """Refuse a model in which a row's density depends on the other rows of a minibatch.

    Raises:
        ValueError: If one does; a model that cannot be run on the first row alone is not looked
            at.
    """
    rows = len(batch.index)
    ends = {row: _row(batch, row) for row in (0, rows - 1)}
    if len(ends[0].index) != 1:  # a batch whose parts cannot be seen
        return
    latents = {name: site["value"] for name, site in trace.iter_stochastic_nodes()}
    with evaluating(poutine.unwrap(model)):
        try:
            drawn = poutine.trace(model).get_trace(ends[0])
        except Exception:  # sizes that go with this batch alone
            return
        _check_outside(model, trace, drawn)
        try:
            together, again = (densities_at(model, latents, batch) for _ in range(2))
            alone = {
                row: densities_at(model, latents_at(trace, rows_at, row), one)
                for row, one in ends.items()
            }
        except Exception:
            return
    for name, site in together.items():
        dim, log_p = data_dim(site), site["log_prob"]
        if dim is None or name not in alone[0] or log_p.shape[dim] != rows:
            continue
        if "outside" in site:  # the objective names the value
            continue
        if not torch.allclose(log_p, again[name]["log_prob"], equal_nan=True):
            return  # it changes from run to run, whatever the rows
        for row, one in alone.items():
            here, there = rows_at(log_p, site, 0, row).sum(), one[name]["log_prob"].sum()
            if not same_density(here, there):
                raise ValueError(
                    f"{name_of(model)} mixes the rows of a batch: the density of '{name}' of row "
                    f"{row} is {here:.4g} in this batch and {there:.4g} alone. A row's density "
                    "must not depend on other rows, unless the whole data set is one batch."
                )


def rows_at(x: Tensor, site: Any, event_dim: int, k: int, number: int = 1) -> Tensor:
    """The k-th block of rows of a site's value or density; all of it outside of the data plate."""
    dim = data_dim(site)
    return x if dim is None else x.narrow(dim - event_dim, k * number, number)


def latents_at(trace: Trace, part: Callable[..., Tensor], k: int) -> dict[str, Tensor]:
    """The k-th part of every latent's value, such as a row and the latents of all data."""
    return {
        name: part(site["value"], site, site["fn"].event_dim, k)
        for name, site in trace.iter_stochastic_nodes()
    }


def _row(batch: Any, row: int) -> Any:
    """One row of a batch, as a batch."""
    rows = len(batch.index)

    def part(values: Any) -> Any:
        by_row = isinstance(values, Tensor) and values.ndim and len(values) == rows
        return values[row : row + 1] if by_row else values

    return tree_map(part, batch)


def _check_outside(model: Any, trace: Trace, alone: Trace) -> None:
    """Refuse a site outside of the data's plate that has another shape in a run on one row."""
    for name, site in densities(trace).items():
        if data_dim(site) is not None or name not in alone.nodes:
            continue
        if site["fn"].shape() != alone.nodes[name]["fn"].shape():
            raise ValueError(
                f"'{name}' of {name_of(model)} has a part for every row of a batch, but is not in "
                "the plate 'data', so that a minibatch would count as all rows: open "
                "data_plate(batch) around it."
            )


def check_densities(model: Any, guide: Any, batch: Batch) -> None:
    """Refuse scaled densities and points, from which no bound on log p(x) can be estimated."""
    pair = run_pair(model, guide, batch)
    for program, trace in zip((model, guide), pair, strict=True):
        for name, site in densities(trace).items():
            scale = torch.as_tensor(site["scale"], dtype=torch.float64)
            if not torch.isclose(scale, scale.new_tensor(rescaled(site)), rtol=1e-5).all():
                raise ValueError(
                    f"{name_of(program)} scales the log-density of '{name}' (poutine.scale): "
                    "the result is not a density, so there is no bound on log p(x) to estimate."
                )
            if program is guide and site["is_observed"]:
                raise ValueError(
                    f"{name_of(guide)} has the factor '{name}', so that log q is no density and "
                    "there is no bound on log p(x) to estimate."
                )
    p, q = pair
    points = [
        name
        for name, site in q.iter_stochastic_nodes()
        if is_point(site["fn"])
        and not (name in p.nodes and is_point(p.nodes[name]["fn"]))
        and not (torch.as_tensor(bare(site["fn"]).log_density) != 0).any()
    ]
    if not points or is_of_points(guide):
        return
    again = run_pair(model, guide, batch)[1]
    auxiliary = any(site["infer"].get("is_auxiliary") for _, site in q.iter_stochastic_nodes())
    for name in points:  # functions of what has a density, or not
        if not auxiliary or torch.equal(q.nodes[name]["value"], again.nodes[name]["value"]):
            raise ValueError(
                f"{name_of(guide)} gives a point for '{name}' (a Delta), and log p(x, z) at a "
                "point is not a bound on log p(x): take the guide point, a q with a density, or "
                "state objective = 'log_joint' in the guide's class."
            )


def is_of_points(guide: Any) -> bool:
    """Whether a guide says that it gives points: log p(x, z) there is no bound on log p(x)."""
    return getattr(poutine.unwrap(guide), "objective", "") == "log_joint"


def refuse_points(guide: Any, what: str) -> None:
    """Refuse a guide of points where ``what`` needs importance weights."""
    if is_of_points(guide):
        raise ValueError(
            f"{what} needs the density of q, and {name_of(guide)} gives points (its objective is "
            "log_joint): log p(x, z) at a point is not a bound on log p(x). Take another guide."
        )
