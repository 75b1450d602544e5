"""Whether data match what a model observes, and their form for that model."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from experiments.data.arrays import check_precision, check_rounding
from experiments.errors import UsageError
from ppl_models.sites import Sites, describe


def as_observed(data: Any, model: nn.Module, sites: Sites | None = None) -> Any:
    """A data set in the dtype, on the device and in the shapes that a model observes.

    Args:
        data: a data set.
        model: p, which is described with what is given with the data.
        sites: sites of the model, if they are already known.

    Raises:
        UsageError: If the model observes other sites, or other numbers of entries.
    """
    whole, sites = sites is None, sites or describe(model, data)
    observed = sites.observed if sites.by_name else {sites.site: sites.x}
    site = data.site or next(iter(observed))
    check_sites(data, site, observed)
    parameter = next((p for p in model.parameters() if p.is_floating_point()), None)
    moved = data if parameter is None else data.to(parameter.device)
    dtype = data.dtype if parameter is None else parameter.dtype
    for name, values in {site: data.pixels, **data.others}.items():
        check_precision(values, dtype, f"values of '{name}'" if data.others else "data")
    if whole:  # rows of one batch of a loader may lie close together
        for name, values in data.given.items():
            check_rounding(values, dtype, f"values of given['{name}']")
    others = {name: as_floats(v, dtype) for name, v in moved.others.items()}
    # a model lays out the plates of a row by itself
    shapes = {name: s for name, s in observed.items() if name not in sites.in_plates}
    return replace(
        moved,
        event_shape=shapes.get(site),
        dtype=dtype,
        site=site if sites.by_name else None,
        others={n: v.reshape(-1, *shapes.get(n, v.shape[1:])) for n, v in others.items()},
        given={name: as_floats(values, dtype) for name, values in moved.given.items()},
    )


def check_sites(data: Any, site: str, observed: dict[str, torch.Size]) -> None:
    """Refuse data with a missing or superfluous site, or with rows of another size."""
    there = {site: data.image_shape, **{n: v.shape[1:] for n, v in data.others.items()}}
    missing = [name for name in observed if name not in there]
    surplus = [name for name in there if name not in observed]
    if missing:
        raise UsageError(
            f"the model observes {', '.join(observed)}, the data have {', '.join(there)}: "
            f"{missing[0]} is missing. Give a dictionary of arrays by site."
        )
    if surplus:
        raise UsageError(
            f"the data have {surplus[0]}, which the model does not observe (it observes "
            f"{', '.join(observed)}): leave it out, or give it as given={{'{surplus[0]}': ...}}."
        )
    for name, shape in there.items():
        if shape.numel() != observed[name].numel():
            raise UsageError(
                f"the model observes {list(observed[name])}"
                f"{'' if len(observed) == 1 else f' at {name}'}, the data set '{data.name}' has "
                f"{list(shape)} per row."
            )


def as_floats(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Floats in the model's dtype; integers and booleans keep their type."""
    return values.to(dtype) if values.is_floating_point() else values
