"""Checks of the shapes of values."""

from typing import Any

import torch


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
