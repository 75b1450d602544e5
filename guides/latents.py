"""The latents of a model, each with its unconstrained coordinates: where guides put Gaussians."""

import copy
from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import ExpTransform, Transform

from ppl_models.coordinates import coordinates, family, is_free
from ppl_models.program import check_plates, describe, prior_trace

__all__ = ["Coordinates", "Pushed", "latents_of", "single_latent", "vector_latent"]

INVERSE = type(ExpTransform().inv)
"""What torch makes of a transform's inverse: its copies forget what they are the inverse of."""


class Pushed(dist.TransformedDistribution):
    """A density of unconstrained coordinates, carried to the support of a prior.

    A draw is remembered with its coordinates: its density needs no inverse, which would lose
    digits far out.
    """

    _drawn: Any = (None, None)

    @property
    def has_fixed_support(self) -> bool:
        """Whether the way to the support is the same whatever parameters and latents are."""
        try:
            return not any(bound.requires_grad for bound in _tensors_of(self.transforms))
        except NotImplementedError:
            return False

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.at(self.base_dist.rsample(sample_shape))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            return self.at(self.base_dist.sample(sample_shape))

    def at(self, u: Tensor) -> Tensor:
        """The draw at given coordinates, remembered with them."""
        (transform,) = self.transforms
        self._drawn = u, transform(u)
        return self._drawn[1]

    def log_prob(self, value: Tensor) -> Tensor:
        u, z = self._drawn
        if value is not z:
            return super().log_prob(value)
        return self.base_dist.log_prob(u) - self.transforms[0].log_abs_det_jacobian(u, z)


class Coordinates(nn.Module):
    """The unconstrained coordinates of one latent, and the way from there to its support.

    Args:
        prior: p(z), whose support is the same for every datum.
        transform: from coordinates to that support; ``None`` where z is any real numbers.

    Attributes:
        shape: of the coordinates of one datum.
        event_dim: number of dimensions of z itself.
    """

    def __init__(self, prior: Any, transform: Any = None) -> None:
        super().__init__()
        self.event_dim, self.shape = prior.event_dim, prior.event_shape
        self._template, self._bounds = transform, list[str]()
        if transform is not None:
            self.shape = transform.inverse_shape(prior.event_shape)
            _with_tensors(transform, self._keep)

    def _keep(self, bound: Tensor) -> Tensor:
        """Keep a number of the transform as a buffer, which moves and traces as others do."""
        self._bounds.append(f"bound{len(self._bounds)}")
        self.register_buffer(self._bounds[-1], bound.detach().clone(), persistent=False)
        return bound

    @property
    def is_identity(self) -> bool:
        """Whether z is its own coordinates."""
        return self._template is None

    @property
    def transform(self) -> Any:
        """From coordinates to the support, where the two differ."""
        bounds = (self.get_buffer(name) for name in self._bounds)
        return _with_tensors(self._template, lambda _: next(bounds))

    def push(self, q: Any) -> Any:
        """The density of z that a density of its coordinates makes."""
        return q if self.is_identity else Pushed(q, [self.transform])

    def at(self, u: Tensor) -> Tensor:
        """z at given coordinates."""
        return u if self.is_identity else self.transform(u)

    def volume(self, u: Tensor, z: Tensor) -> Any:
        """log of the volume that the map takes up there, of every event."""
        return 0.0 if self.is_identity else self.transform.log_abs_det_jacobian(u, z)


def _with_tensors(part: Any, swap: Callable[[Tensor], Tensor]) -> Any:
    """A copy of a transform with its tensors, and those of its parts, exchanged.

    Raises:
        NotImplementedError: At a transform that has parameters, or is an inverse, which torch
            cannot copy.
    """
    if isinstance(part, Tensor):
        return swap(part)
    if isinstance(part, list):
        return [_with_tensors(one, swap) for one in part]
    if not isinstance(part, Transform):
        return part
    if isinstance(part, nn.Module | INVERSE):
        raise NotImplementedError
    twin = copy.copy(part)
    state = {**vars(part), "_inv": None}  # where torch keeps the inverse that it has made
    vars(twin).update({name: _with_tensors(value, swap) for name, value in state.items()})
    return twin


def _tensors_of(part: Any) -> list[Tensor]:
    """The tensors of transforms, those of their parts among them."""
    found: list[Tensor] = []

    def note(bound: Tensor) -> Tensor:
        found.append(bound)
        return bound

    _with_tensors(part, note)
    return found


def latents_of(model: nn.Module, guide: str) -> dict[str, Coordinates]:
    """The coordinates of every latent, for a guide with numbers of its own for every datum.

    Args:
        model: p.
        guide: the name of the guide that asks.

    Raises:
        ValueError: If a latent is global, has no unconstrained coordinates or some that depend on
            other latents, parameters or the datum, or lies in a second plate inside the data's.
    """
    latents, _, of_all_data = describe(model)
    for name in of_all_data:
        raise ValueError(
            f"{guide} is for latents of every datum; '{name}' is global, outside the plate of the "
            "data: take a guide of Pyro's, such as auto_normal."
        )
    nodes = prior_trace(model, size=2, grad=True).nodes
    for name in latents:
        check_plates(name, nodes[name])
    return {name: _coordinates_of(nodes[name], guide) for name in latents}


def _coordinates_of(site: Any, guide: str) -> Coordinates:
    """Those of one latent, from its site in a run of two rows."""
    name, prior = site["name"], site["fn"]
    fitting = "take the guide prior, or one of your own with that support."

    def is_per_row(bound: Tensor) -> bool:
        return bound.ndim > prior.event_dim

    try:
        if is_free(prior):
            return Coordinates(prior)
        transform = coordinates(prior)
        transform.log_abs_det_jacobian(transform.inv(site["value"]), site["value"])
        bounds = _tensors_of(transform)
    except NotImplementedError:
        raise ValueError(
            f"{guide} needs latents that are a smooth map of real numbers; '{name}' "
            f"({family(prior)}) is none: {fitting}"
        ) from None
    of_rows = (bound for bound in bounds if is_per_row(bound))
    if any(bound.requires_grad for bound in bounds) or any(b[0].ne(b[1]).any() for b in of_rows):
        raise ValueError(
            f"{guide} needs latents whose support is fixed; that of '{name}' ({family(prior)}) "
            f"depends on parameters, other latents or the datum: {fitting}"
        )
    of_one = _with_tensors(transform, lambda bound: bound[0] if is_per_row(bound) else bound)
    return Coordinates(prior, of_one)


def vector_latent(model: nn.Module, guide: str) -> tuple[str, Coordinates, torch.Size]:
    """The name and coordinates of a model's only latent, and the shape of its observation.

    Args:
        model: p.
        guide: the name of the guide that asks.

    Raises:
        ValueError: As ``latents_of``; if the model has several latents, or one whose coordinates
            are no vector.
    """
    latents, x, _ = describe(model)
    if len(latents) == 1:
        ((name, found),) = latents_of(model, guide).items()
        if len(found.shape) == 1:
            return name, found, x
    raise ValueError(f"{guide} needs one vector latent; the model has {latents}.")


def single_latent(model: nn.Module, guide: str, real: bool = True) -> tuple[str, int, torch.Size]:
    """The name and dimension of a model's only latent, and the shape of its observation.

    Args:
        model: p.
        guide: the name of the guide that asks.
        real: whether it takes none but latents on the real line.

    Raises:
        ValueError: If the model has several latents, or one that is no vector or not ``real``.
    """
    latents, x, _ = describe(model)
    if len(latents) != 1 or len(next(iter(latents.values()))) != 1:
        raise ValueError(f"{guide} needs one vector latent; the model has {latents}.")
    ((name, shape),) = latents.items()
    if real and not latents_of(model, guide)[name].is_identity:
        prior = prior_trace(model).nodes[name]["fn"]
        raise ValueError(
            f"{guide} is for latents on the real line; '{name}' ({family(prior)}) is not: put the "
            "Gaussian on its coordinates (vector_latent), or take the guide amortized."
        )
    return name, shape[0], x
