"""A density of unconstrained coordinates, carried to the support of a prior."""

import copy
from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import ExpTransform, Transform

INVERSE = type(ExpTransform().inv)
"""The class of inverse transforms in torch; copies of them lose the original transform."""


class Pushforward(dist.TransformedDistribution):
    """A density of unconstrained coordinates, carried to the support of a prior.

    A draw is cached with its coordinates, so that its density needs no inverse, which would be
    inaccurate in the tails.
    """

    _drawn: Any = (None, None)

    @property
    def has_fixed_support(self) -> bool:
        """Whether the map to the support is independent of parameters and latents."""
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
        """The draw at given coordinates, cached with them."""
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
    """The unconstrained coordinates of one latent, and the map from there to its support.

    Args:
        prior: p(z), whose support is the same for every datum.
        transform: from coordinates to that support; ``None`` if z is unconstrained.

    Attributes:
        shape: shape of the coordinates of one datum.
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
        """Register a number of the transform as a buffer, so that it follows the device."""
        self._bounds.append(f"bound{len(self._bounds)}")
        self.register_buffer(self._bounds[-1], bound.detach().clone(), persistent=False)
        return bound

    @property
    def is_identity(self) -> bool:
        """Whether the coordinates are z itself."""
        return self._template is None

    @property
    def transform(self) -> Any:
        """The map from coordinates to the support, if z is constrained."""
        bounds = (self.get_buffer(name) for name in self._bounds)
        return with_tensors(self._template, lambda _: next(bounds))

    def push(self, q: Any) -> Any:
        """The density of z, given a density of its coordinates."""
        return q if self.is_identity else Pushforward(q, [self.transform])

    def at(self, u: Tensor) -> Tensor:
        """z at given coordinates."""
        return u if self.is_identity else self.transform(u)

    def volume(self, u: Tensor, z: Tensor) -> Any:
        """log-determinant of the map at these coordinates, for every event."""
        return 0.0 if self.is_identity else self.transform.log_abs_det_jacobian(u, z)


def shape_of(transform: Any, prior: Any) -> torch.Size:
    """The shape of one event's coordinates; bounds may have that of the batch."""
    whole = transform.inverse_shape(prior.batch_shape + prior.event_shape)
    return torch.Size(whole[len(prior.batch_shape) :])


def with_tensors(part: Any, swap: Callable[[Tensor], Tensor]) -> Any:
    """A copy of a transform with other tensors, also in its parts.

    Raises:
        NotImplementedError: If the transform has parameters or is an inverse; torch cannot copy
            these.
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
    state = {**vars(part), "_inv": None}  # torch caches the inverse here
    vars(twin).update({name: with_tensors(value, swap) for name, value in state.items()})
    return twin


def tensors_of(part: Any) -> list[Tensor]:
    """The tensors of transforms and of their parts."""
    found: list[Tensor] = []

    def note(bound: Tensor) -> Tensor:
        found.append(bound)
        return bound

    with_tensors(part, note)
    return found
