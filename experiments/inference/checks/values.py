"""Checks of values: their shapes, and whether a batch keeps them while programs run."""

import math
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from experiments.inference.checks.sites import name_of, run_pair
from ppl_models.random_numbers import forked_rng
from ppl_models.sites import is_local


def check_events(check: Any) -> None:
    """Refuse values that torch would broadcast over rows or entries of an event, and then sum.

    Beside a mean ``[B, 1]``, a column of the event, the value ``[B]`` counts B times in every row;
    a latent of one number would stand for a whole event of the prior.
    """
    rows = len(check.batch.index)
    for owner, trace in ((check.model, check.p), (check.guide, check.q)):
        for name, site in trace.items():
            shape, event = getattr(site["value"], "shape", ()), site["fn"].event_shape
            beside = (rows, 1) in zip(shape[::-1], event[::-1], strict=False)
            if beside and rows > 1 and len(shape) <= len(event) and is_local(site):
                raise ValueError(
                    f"the value of '{name}' has the shape {list(shape)}, its distribution in "
                    f"{owner} {list(site['fn'].shape())}: every row would be compared with all "
                    "values. A value has its rows first, then the event (x[:, None])."
                )
    for name in check.latents:
        z, event = check.q[name]["value"], check.p[name]["fn"].event_shape
        drawn = z.shape[z.ndim - len(event) :]
        if math.prod(drawn) < math.prod(event):
            raise ValueError(
                f"{check.guide} draws '{name}' with the shape {list(drawn)}; its prior in "
                f"{check.model} has {list(event)}: one number would stand for several. Give "
                "q the shape of the prior."
            )


def versions_of(batch: Any) -> list[tuple[Tensor, int]]:
    """All tensors that a batch observes or is given, each with a count of its changes in place."""
    leaves = tree_leaves((getattr(batch, "x", None), getattr(batch, "given", {})))
    parts = [leaf for leaf in leaves if isinstance(leaf, Tensor) and not leaf.is_inference()]
    return [(part, part._version) for part in parts]


def check_kept(model: Any, guide: Any, batch: Any, before: list[tuple[Tensor, int]]) -> None:
    """Refuse programs that change a batch in place, to something else at every run.

    Two more runs with the same random numbers tell: what is only clipped or normalised stays.
    ``before`` holds the batch's ``versions_of`` before one run of both.
    """
    changed = [part for part, version in before if part._version != version]
    if not changed:
        return
    once, again = (_after_a_run(model, guide, batch, changed) for _ in range(2))
    for one, other in zip(once, again, strict=True):
        if (other - one).norm() > 1e-3 * one.norm():
            raise ValueError(
                f"{name_of(model)} or {name_of(guide)} changes its batch in place, so that every "
                "run sees other data: write x = x - m in place of x -= m (x.clone() makes a copy)."
            )


def _after_a_run(model: Any, guide: Any, batch: Any, parts: list[Tensor]) -> list[Tensor]:
    """Copies of parts of a batch after a run, whose draws leave no trace."""
    with forked_rng():
        run_pair(model, guide, batch)
    return [part.nan_to_num().double() for part in parts]
