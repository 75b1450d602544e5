"""Masks: which entries of a site count, and whether model and guide leave out the same ones."""

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_models.coordinates import is_point


def mask_of(site: Any) -> Any:
    """Ones where a site's log-density counts, zeros where a mask leaves it out.

    Masks of the site and of the distributions inside its own, entry by entry of the event.
    """
    fn, mask = site["fn"], True if site["mask"] is None else site["mask"]
    if isinstance(mask, Tensor):
        mask = mask.reshape(mask.shape + (1,) * fn.event_dim)
    while hasattr(fn, "base_dist"):
        if isinstance(fn, dist.MaskedDistribution):
            inner = torch.as_tensor(fn._mask)
            mask = mask & inner.reshape(inner.shape + (1,) * fn.event_dim)
        fn = fn.base_dist
    return mask


def _same(p: Any, q: Any) -> bool:
    p = torch.as_tensor(p)
    try:
        return bool((p == torch.as_tensor(q, device=p.device)).all())
    except RuntimeError:  # shapes that do not go together
        return False


def check_masks(check: Any, name: str) -> None:
    """Refuse a latent of which the guide leaves out other entries than the model."""
    sites = [check.q[name]]
    if is_point(sites[0]["fn"]):
        named = check.q.get(f"{name}_unconstrained")  # as Pyro names it
        auxiliary = [one for one in check.q.values() if one["infer"].get("is_auxiliary")]
        sites += [named] if named else auxiliary
        if len(sites) == 1:
            return  # a point has no density to leave out
    mask = mask_of(check.p[name])
    if not any(_same(mask, mask_of(site)) for site in sites):
        raise ValueError(
            f"a mask leaves out other entries of '{name}' in {check.model} than in {check.guide}: "
            "their log-densities would not be of the same latents. Mask both, in the same way."
        )
