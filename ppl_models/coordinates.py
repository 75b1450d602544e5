"""The support of a distribution, and unconstrained coordinates for it."""

import math
from typing import Any

import pyro.distributions as dist
from torch import distributions
from torch.distributions import biject_to, constraints, transforms

from ppl_models.distributions.normals import IsotropicNormal

CIRCULAR = (dist.VonMises, dist.SineBivariateVonMises)
"""Densities of angles: periodic on the real line, so that they are taken on one turn."""
OURS = frozenset(("ppl_models", "guides", "experiments", "torch", "pyro"))
"""Packages whose classes behave as their bases do, and keep no settings that change."""
WRAPPERS = (dist.Independent, dist.ExpandedDistribution, dist.MaskedDistribution)
"""What ``to_event``, ``expand`` and ``mask`` put around a distribution."""


def bare(distribution: Any) -> Any:
    """The distribution inside ``to_event``, ``expand`` and ``mask``."""
    while isinstance(distribution, WRAPPERS):
        distribution = distribution.base_dist
    return distribution


def is_product(distribution: Any) -> bool:
    """Whether a density is that of ``base_dist``, multiplied over the entries of an event.

    A subclass of ``Independent`` may define another density.
    """
    if isinstance(distribution, IsotropicNormal):
        return True
    product = getattr(type(distribution), "log_prob", None) is distributions.Independent.log_prob
    return product and not distribution.base_dist.event_shape


def is_ours(kind: Any) -> bool:
    """Whether a class or function is of this project or its libraries.

    Such a class behaves as its bases do.
    """
    return str(kind.__module__).partition(".")[0] in OURS


def own_density(distribution: Any) -> type | None:
    """The user's class, of the distribution or of its base, that defines its own density.

    What holds for a normal, such as its KL, does not hold for a class that derives from it.
    """
    kinds = type(distribution).__mro__
    if not is_ours(kinds[0]):
        owner = next((kind for kind in kinds if "log_prob" in vars(kind)), kinds[0])
        if not is_ours(owner):
            return owner
    inside = getattr(distribution, "base_dist", None)
    return None if inside is None else own_density(inside)


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
    return over_events(transform, distribution)


def over_events(transform: Any, distribution: Any) -> Any:
    """A transform whose determinant is that of a whole event."""
    more = distribution.event_dim - transform.codomain.event_dim
    return transforms.IndependentTransform(transform, more) if more > 0 else transform
