"""Whether model and guide draw a latent in the same places."""

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from guides.coordinates import Pushforward
from ppl_models.coordinates import bare, coordinates, family, is_free, support_of

NUMBERS = 100
"""Minimum number of entries of draws from the prior that q must have a density for."""


def check_supports(check: Any, name: str) -> None:
    """Refuse draws of the guide outside the prior's support, and the other way round."""
    p, q = (trace[name]["fn"] for trace in (check.p, check.q))
    z = check.q[name]["value"]
    if not z.isfinite().all():
        return  # in no support; the guard reports it
    if not _contains(p, z, *_far_out(q, z)):
        raise ValueError(
            f"{check.guide} draws '{name}' outside the support of its prior in {check.model} "
            f"({family(p)}): give q that support, or take the guide prior."
        )
    if not _contains(q, p.sample((-(-NUMBERS // max(1, z.numel())),))):
        raise ValueError(
            f"{check.guide} never draws '{name}' where its prior in {check.model} "
            f"({family(p)}) does: give q that support, or take the guide prior."
        )


def _contains(distribution: Any, *draws: Tensor) -> bool:
    inside = bare(distribution)
    if isinstance(inside, Pushforward):  # its support is reported as that of the last transform
        back = [inside.at(inside.coordinates_of(z)) for z in draws]
        return all(torch.allclose(*pair, 1e-3, 1e-3) for pair in zip(back, draws, strict=True))
    try:
        support = support_of(distribution)
        return all(bool(support.check(z).all()) for z in draws)
    except NotImplementedError:
        return True


def _far_out(q: Any, like: Tensor) -> tuple[Tensor, ...]:
    """Extreme points in the support of q; a draw if the reported support is not reliable."""
    if isinstance(bare(q), dist.TransformedDistribution | dist.Delta):
        return (like,)  # a chain of transforms reports the image of the last one's whole domain
    try:
        transform = coordinates(q)
    except NotImplementedError:
        return (like,)
    far = like.new_full(transform.inverse_shape(like.shape), 1e6 if is_free(q) else 3.0)
    signs = torch.randint(2, far.shape, device=far.device).to(far) * 2 - 1
    return transform(far), transform(-far), transform(signs * far)
