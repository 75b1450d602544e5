"""Checks of values: their shapes, and whether a batch keeps them while programs run."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from experiments.inference.checks.sites import name_of, run_pair


def check_events(check: Any) -> None:
    """Refuse values without rows that torch would compare with an event of one as a table.

    Beside a mean ``[B, 1]``, a column of the event, the value ``[B]`` counts B times in every row.
    """
    for owner, trace in ((check.model, check.p), (check.guide, check.q)):
        for name, site in trace.items():
            shape, event = torch.as_tensor(site["value"]).shape, site["fn"].event_shape
            pairs = zip(shape[::-1], event[::-1], strict=False)
            if len(shape) <= len(event) and any(own == 1 < size for size, own in pairs):
                raise ValueError(
                    f"the value of '{name}' has the shape {list(shape)}, its distribution in "
                    f"{owner} {list(site['fn'].shape())}: every row would be compared with all "
                    "values. A value has its rows first, then the event (x[:, None])."
                )


def versions_of(batch: Any) -> list[tuple[Tensor, int]]:
    """All tensors that a batch observes or is given, each with a count of its changes in place."""
    leaves = tree_leaves((getattr(batch, "x", None), getattr(batch, "given", {})))
    parts = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    return [(part, 0 if part.is_inference() else part._version) for part in parts]


def check_kept(model: Any, guide: Any, batch: Any, before: list[tuple[Tensor, int]]) -> None:
    """Refuse programs that change a batch in place, to something else at every run.

    Args:
        model: p.
        guide: q.
        batch: after one run of both.
        before: its ``versions_of`` before that run.
    """
    pairs = zip(before, versions_of(batch), strict=True)
    changed = [part for (part, was), (_, now) in pairs if was != now]
    once = [part.nan_to_num() for part in changed]
    if changed:
        run_pair(model, guide, batch)
    again = [part.nan_to_num() for part in changed]
    if not all(map(torch.equal, once, again)):
        raise ValueError(
            f"{name_of(model)} or {name_of(guide)} changes its batch in place, so that every run "
            "sees other data: write x = x - m in place of x -= m (x.clone() makes a copy)."
        )
