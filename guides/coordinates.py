"""A density of unconstrained coordinates, carried to the support of a prior."""

import copy
from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import ExpTransform, Transform

__all__ = ["Coordinates", "Pushed", "shape_of", "tensors_of", "with_tensors"]

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
            return not any(bound.requires_grad for bound in tensors_of(self.transforms))
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

    def coordinates_of(self, value: Tensor) -> Tensor:
        """The coordinates of a value, as remembered if it was drawn last."""
        u, z = self._drawn
        return u if value is z else self.transforms[0].inv(value)

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
            self.shape = shape_of(transform, prior)
            with_tensors(transform, self._keep)

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
        return with_tensors(self._template, lambda _: next(bounds))

    def push(self, q: Any) -> Any:
        """The density of z that a density of its coordinates makes."""
        return q if self.is_identity else Pushed(q, [self.transform])

    def at(self, u: Tensor) -> Tensor:
        """z at given coordinates."""
        return u if self.is_identity else self.transform(u)

    def volume(self, u: Tensor, z: Tensor) -> Any:
        """log of the volume that the map takes up there, of every event."""
        return 0.0 if self.is_identity else self.transform.log_abs_det_jacobian(u, z)


def shape_of(transform: Any, prior: Any) -> torch.Size:
    """The shape of one event's coordinates; bounds may have that of the batch."""
    whole = transform.inverse_shape(prior.batch_shape + prior.event_shape)
    return torch.Size(whole[len(prior.batch_shape) :])


def with_tensors(part: Any, swap: Callable[[Tensor], Tensor]) -> Any:
    """A copy of a transform with its tensors, and those of its parts, exchanged.

    Raises:
        NotImplementedError: At a transform that has parameters, or is an inverse, which torch
            cannot copy.
    """
    if isinstance(part, Tensor):
        return swap(part)
    if isinstance(part, list):
        return [with_tensors(one, swap) for one in part]
    if not isinstance(part, Transform):
        return part
    if isinstance(part, nn.Module | INVERSE):
        raise NotImplementedError
    twin = copy.copy(part)
    state = {**vars(part), "_inv": None}  # where torch keeps the inverse that it has made
    vars(twin).update({name: with_tensors(value, swap) for name, value in state.items()})
    return twin


def tensors_of(part: Any) -> list[Tensor]:
    """The tensors of transforms, those of their parts among them."""
    found: list[Tensor] = []

    def note(bound: Tensor) -> Tensor:
        found.append(bound)
        return bound

    with_tensors(part, note)
    return found
