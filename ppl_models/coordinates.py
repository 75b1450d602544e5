"""The support of a distribution, and unconstrained coordinates for it."""

import math
from collections.abc import Callable, Collection
from typing import Any

import pyro.distributions as dist
from pyro.poutine.messenger import Messenger
from torch import Tensor, distributions
from torch.distributions import biject_to, constraints, transforms

from ppl_models.distributions.normals import IsotropicNormal

CIRCULAR = (dist.VonMises, dist.SineBivariateVonMises)
"""Densities of angles: periodic on the real line, so that they are taken on one turn."""


def bare(distribution: Any) -> Any:
    """The distribution inside ``to_event``, ``expand`` and ``mask``."""
    while isinstance(
        distribution, dist.Independent | dist.ExpandedDistribution | dist.MaskedDistribution
    ):
        distribution = distribution.base_dist
    return distribution


def is_product(distribution: Any) -> bool:
    """Whether a density is that of ``base_dist``, multiplied over the entries of an event.

    A subclass of ``Independent`` may define another density.
    """
    if isinstance(distribution, IsotropicNormal):
        return True
    return getattr(type(distribution), "log_prob", None) is distributions.Independent.log_prob


def is_point(distribution: Any) -> bool:
    """Whether a distribution has one value: a point, or a function of another site."""
    return isinstance(bare(distribution), dist.Delta)


def family(distribution: Any) -> str:
    """The name of a distribution, without ``to_event`` and the like."""
    return type(bare(distribution)).__name__


def support_of(distribution: Any) -> Any:
    """The set that draws lie in.

    Angles lie between -pi and pi. A mixture has the support of its components. The support of a
    transformed distribution is the image of its base's support.

    Raises:
        NotImplementedError: If the distribution does not know.
    """
    inside = bare(distribution)
    if isinstance(inside, CIRCULAR):
        turn = constraints.interval(-math.pi, math.pi)
        return constraints.independent(turn, distribution.event_dim)
    if isinstance(inside, dist.MixtureSameFamily):
        support = support_of(inside.component_distribution)
        more = distribution.event_dim - support.event_dim
        return constraints.independent(support, more) if more > 0 else support
    if _is_partial(inside):
        raise NotImplementedError(f"the transforms of {distribution} do not say where they lead")
    return distribution.support


def _is_partial(inside: Any) -> bool:
    """Whether the base covers only a part of the transforms' domain.

    The transforms report the image of the whole domain.
    """
    if type(inside) not in (dist.TransformedDistribution, distributions.TransformedDistribution):
        return False
    support = support_of(inside.base_dist)
    for transform in inside.transforms:
        if core(support) is not core(transform.domain):
            return True
        support = transform.codomain
    return False


def core(support: Any) -> Any:
    """A constraint without its event dimensions."""
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support


def is_free(distribution: Any) -> bool:
    """Whether draws may lie anywhere on the real line."""
    return not _is_partial(bare(distribution)) and (
        core(support_of(distribution)) is constraints.real
    )


def coordinates(distribution: Any) -> Any:
    """The transform from unconstrained numbers to the support, over whole events.

    Raises:
        NotImplementedError: If there is none, as for a sphere or discrete values.
    """
    inside = bare(distribution)
    if _is_partial(inside):
        chain = [coordinates(inside.base_dist), *inside.transforms]
        if not all(transform.bijective for transform in chain):
            raise NotImplementedError(f"the transforms of {distribution} cannot be inverted")
        transform: Any = transforms.ComposeTransform(chain)
    else:
        support = support_of(distribution)
        if support.is_discrete:
            raise NotImplementedError(f"{support} is discrete")
        transform = biject_to(support)
    return _over_events(transform, distribution)


def from_noise(distribution: Any) -> Any:
    """The transform from standard normal noise to draws, over whole events.

    Raises:
        NotImplementedError: If the distribution is neither Gaussian nor a bijection of a Gaussian,
            or a part of it is masked.
    """
    inside = distribution
    while isinstance(inside, dist.Independent | dist.ExpandedDistribution):
        inside = inside.base_dist
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
    return _over_events(transform, distribution)


def _over_events(transform: Any, distribution: Any) -> Any:
    """A transform whose determinant is that of a whole event."""
    more = distribution.event_dim - transform.codomain.event_dim
    return transforms.IndependentTransform(transform, more) if more > 0 else transform


class Correlated(dist.transforms.LowerCholeskyAffine):
    """L u + mu, where L may be a batch of lower triangular matrices, unlike in Pyro."""

    def log_abs_det_jacobian(self, u: Tensor, z: Tensor) -> Tensor:
        volume = self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return volume.expand(z.shape[:-1])


class ToCoordinates(Messenger):
    """Record the coordinates of some latents while a program runs.

    Args:
        names: of the latents.
        of: the transform from coordinates to draws of a site's distribution.

    Attributes:
        found: their coordinates, the rows of the data first.
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
        found: the latents.
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
