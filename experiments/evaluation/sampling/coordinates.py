"""Draws as maps of noise, and handlers that read or set latents in unconstrained coordinates."""

from collections.abc import Callable, Collection
from typing import Any

import pyro.distributions as dist
from pyro.poutine.messenger import Messenger
from torch import Tensor, distributions
from torch.distributions import transforms

from ppl_models.coordinates import coordinates, family, over_events, own_density


def from_noise(distribution: Any) -> Any:
    """The transform from standard normal noise to draws, over whole events.

    Raises:
        NotImplementedError: If the distribution is neither Gaussian nor a bijection of a Gaussian,
            or a part of it is masked, or has a density of its own.
    """
    inside = distribution
    while isinstance(inside, dist.Independent | dist.ExpandedDistribution):
        inside = inside.base_dist
    if own_density(inside):
        raise NotImplementedError(f"{family(distribution)} has a density of its own")
    if isinstance(inside, distributions.Normal):
        transform: Any = transforms.AffineTransform(inside.loc, inside.scale)
    elif isinstance(inside, distributions.MultivariateNormal):
        transform = Correlated(inside.loc, inside.scale_tril)
    elif isinstance(inside, distributions.TransformedDistribution):
        chain = [from_noise(inside.base_dist), *inside.transforms]
        transform = transforms.ComposeTransform(chain)
    else:
        raise NotImplementedError(f"{family(distribution)} is not made of Gaussian noise")
    if not transform.bijective:
        raise NotImplementedError(f"the transforms of {distribution} cannot be inverted")
    return over_events(transform, distribution)


class Correlated(dist.transforms.LowerCholeskyAffine):
    """L u + mu, where L may be a batch of lower triangular matrices, unlike in Pyro."""

    def log_abs_det_jacobian(self, u: Tensor, z: Tensor) -> Tensor:
        volume = self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return volume.expand(z.shape[:-1])


class ToCoordinates(Messenger):
    """Record the coordinates of some latents while a program runs.

    Args:
        names: names of the latents.
        of: the transform from coordinates to draws of a site's distribution.

    Attributes:
        found: coordinates of these latents, the rows of the data first.
    """

    def __init__(self, names: Collection[str], of: Callable[[Any], Any] = coordinates) -> None:
        super().__init__()
        self.names, self.of, self.found = names, of, dict[str, Tensor]()

    def _pyro_post_sample(self, msg: Any) -> None:
        if msg["name"] in self.names:
            transform = self.of(msg["fn"])
            u = transform.inv(msg["value"])
            self.found[msg["name"]] = u.movedim(_rows(u, msg, transform), 0)


class FromCoordinates(Messenger):
    """Set a program's latents to the values at given coordinates.

    Args:
        at: coordinates by site, the rows of the data first.
        of: the transform from coordinates to draws of a site's distribution.

    Attributes:
        found: values of the latents.
        volume: log-determinant of the map from coordinates to latents, for every row ``[B]``.
    """

    def __init__(self, at: dict[str, Tensor], of: Callable[[Any], Any] = coordinates) -> None:
        super().__init__()
        self.at, self.of, self.found = at, of, dict[str, Tensor]()
        self.volume: Any = 0.0

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] not in self.at:
            return
        u, transform = self.at[msg["name"]], self.of(msg["fn"])
        u = u.movedim(0, _rows(u, msg, transform))
        z = transform(u)
        volume = transform.log_abs_det_jacobian(u, z)
        volume = volume.movedim(_data_dim(msg), 0)
        self.volume = self.volume + volume.reshape(len(volume), -1).sum(1)
        self.found[msg["name"]] = msg["value"] = z
        msg["done"] = True


def _data_dim(msg: Any) -> int:
    return next(frame.dim for frame in msg["cond_indep_stack"] if frame.name == "data")


def _rows(u: Tensor, msg: Any, transform: Any) -> int:
    """Which dimension of a latent's coordinates holds the rows of the data."""
    return u.ndim - transform.domain.event_dim + _data_dim(msg)
