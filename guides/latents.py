"""The latents of a model with their unconstrained coordinates, in which guides are Gaussian."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from pyro.poutine.trace_struct import Trace
from torch import Tensor, nn
from torch.distributions import biject_to

from guides.coordinates import Coordinates, tensors_of, with_tensors
from ppl_models.coordinates import coordinates, family, is_free, is_point
from ppl_models.random_numbers import seeded
from ppl_models.sites import check_plates, describe, given_rows, prior_trace

FOR_MOVING_SUPPORTS = "prior or top_down"
"""Guides for latents whose support depends on parameters, other latents or the datum."""

NO_VECTOR = "{} needs one vector latent; the model has {}."


RESERVED = {*dir(nn.ModuleDict()), "names"}
"""Names that ``nn.ModuleDict`` refuses, because they are its own attributes."""


class ByName(nn.ModuleDict):
    """Modules by the names of latents, which may contain dots or be ``RESERVED``."""

    def __init__(self, parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.names: dict[str, str] = {}
        for name, part in parts.items():
            key = self._key(name)
            self.names[key] = name
            super().__setitem__(key, part)

    @staticmethod
    def _key(name: str) -> str:
        odd = "." in name or name in RESERVED
        return f"site {name.replace('.', '/')}" if odd else name

    def __getitem__(self, name: str) -> Any:
        return super().__getitem__(self._key(name))

    def __contains__(self, name: str) -> bool:
        return self._key(name) in self._modules

    def __iter__(self) -> Iterator[str]:
        return iter(self.names.values())

    def keys(self) -> Any:
        return self.names.values()

    def items(self) -> Any:
        return [(self.names[key], part) for key, part in self._modules.items()]


MOST_ROWS = 1000
"""Maximum number of rows on which supports are compared."""


def latents_of(model: nn.Module, guide: str, fixed: bool = True) -> dict[str, Coordinates]:
    """The coordinates of every latent, for a guide of per-datum latents.

    Args:
        model: p.
        guide: the name of the guide that asks.
        fixed: whether the coordinates must be independent of other latents, parameters and the
            datum; if they may depend on them, only their shapes can be used.

    Raises:
        ValueError: If all latents are summed out, or one is global, has no such coordinates, or
            lies in a second plate inside the data's.
    """
    sites = describe(model)
    if not sites.latents:
        raise ValueError(
            f"{guide} has no latent to infer: all are summed out. Take the guide prior."
        )
    for name in sites.of_all_data:
        raise ValueError(
            f"{guide} is for latents of every datum; '{name}' is global, outside the plate of the "
            "data: take a guide of Pyro's, such as auto_normal."
        )
    runs = _two_runs(model)
    for name in sites.latents:
        check_plates(name, runs[0].nodes[name])
    return {name: _coordinates_of(name, runs, guide, fixed) for name in sites.latents}


def _two_runs(model: nn.Module) -> tuple[Trace, Trace]:
    """Run the generative story twice, with gradients: two rows each, or all that are given."""
    rows = min(max(2, given_rows(model)), MOST_ROWS)
    with seeded(0):
        first = prior_trace(model, rows, grad=True)
    with seeded(1):
        return first, prior_trace(model, rows, grad=True)


def _transform(name: str, runs: Sequence[Trace], guide: str, fixed: bool = True) -> Any:
    """The map from unconstrained coordinates to the support of a latent, in the first of two runs.

    Raises:
        ValueError: If there is no such map, as of a point; if it depends on parameters or other
            latents, and is to be ``fixed``.
    """
    sites = [run.nodes[name] for run in runs]
    kind = family(sites[0]["fn"])
    if is_point(sites[0]["fn"]):
        raise ValueError(
            f"{guide} needs latents with a density; '{name}' ({kind}) is a function of other "
            f"values: write it as pyro.deterministic('{name}', ...)."
        )
    fitting = "write a guide of your own with that support."
    if not guide.startswith("auto_"):
        fitting = "take the guide {}, or one of your own with that support."
    try:
        found = [coordinates(site["fn"]) for site in sites]
        for transform, site in zip(found, sites, strict=True):
            transform.log_abs_det_jacobian(transform.inv(site["value"]), site["value"])
        bounds = [tensors_of(transform) for transform in found]
    except NotImplementedError:
        raise ValueError(
            f"{guide} needs latents with an unconstrained parametrisation; '{name}' ({kind}) "
            f"has none: {fitting.format('prior')}"
        ) from None
    if fixed and not all(_same(one, other) for one, other in zip(*bounds, strict=True)):
        raise ValueError(
            f"{guide} needs latents whose support is fixed; that of '{name}' ({kind}) depends on "
            f"parameters or other latents: {fitting.format(FOR_MOVING_SUPPORTS)}"
        )
    return found[0]


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether a bound of the support is the same constant in two runs."""
    return not one.requires_grad and torch.equal(one, other)


def _coordinates_of(name: str, runs: Sequence[Trace], guide: str, fixed: bool) -> Coordinates:
    """The coordinates of a per-datum latent, from two runs of the model."""
    prior = runs[0].nodes[name]["fn"]
    transform = _transform(name, runs, guide, fixed)
    if is_free(prior):
        return Coordinates(prior)
    if not fixed:
        return Coordinates(prior, transform)

    def of_one(bound: Tensor) -> Tensor:
        if bound.ndim <= prior.event_dim:  # the same for all rows
            return bound
        if not (bound == bound[:1]).all():
            raise ValueError(
                f"{guide} needs latents whose support is fixed; that of '{name}' "
                f"({family(prior)}) depends on the datum: take the guide {FOR_MOVING_SUPPORTS}, "
                "or one of your own with that support."
            )
        return bound[0]

    return Coordinates(prior, with_tensors(transform, of_one))


def check_pyros_coordinates(model: nn.Module, guide: str) -> None:
    """Refuse a latent for which Pyro's autoguides use another support than that of its prior.

    Raises:
        ValueError: If a latent has no fixed coordinates, or Pyro uses different ones.
    """
    runs = _two_runs(model)
    for name in describe(model).latents:
        ours = _transform(name, runs, guide)
        site = runs[0].nodes[name]
        u = ours.inv(site["value"])
        try:
            back = biject_to(site["fn"].support)(u)
            same = torch.allclose(back, site["value"], rtol=0, atol=1e-3)
        except NotImplementedError:
            same = False
        if not same:
            raise ValueError(
                f"{guide} is Pyro's, which has no coordinates for '{name}' "
                f"({family(site['fn'])}): write a guide of your own."
            )


def vector_latent(model: nn.Module, guide: str) -> tuple[str, Coordinates]:
    """The name and coordinates of a model's only latent.

    Args:
        model: p.
        guide: the name of the guide that asks.

    Raises:
        ValueError: As ``latents_of``; if the model has several latents, or one whose coordinates
            are no vector.
    """
    latents = describe(model).latents
    if len(latents) == 1:
        ((name, found),) = latents_of(model, guide).items()
        if len(found.shape) == 1:
            return name, found
    raise ValueError(NO_VECTOR.format(guide, latents))


def single_latent(model: nn.Module, guide: str) -> str:
    """The name of a model's only latent, a vector of any support.

    Args:
        model: p.
        guide: the name of the guide that asks.

    Raises:
        ValueError: If the model has several latents, or one that is no vector.
    """
    latents = describe(model).latents
    if [len(shape) for shape in latents.values()] != [1]:
        raise ValueError(NO_VECTOR.format(guide, latents))
    return next(iter(latents))
