"""Data that a model draws must come from the density that it has."""

from typing import Any

import torch
from torch import nn

from experiments.inference.checks.sites import densities, name_of
from experiments.inference.pair import cuda_devices
from ppl_models.sites import simulate

__all__ = ["check_simulates"]


@torch.no_grad()
def check_simulates(model: Any, what: str) -> None:
    """Refuse a model with an observation that is set, whatever the model draws, as a factor's is.

    Such a site changes p(x, z), but not the draws. One whose density does not depend on what is
    drawn, such as a label that is given, changes neither.

    Args:
        model: p.
        what: asks, as the first words of the message.

    Raises:
        ValueError: Naming the site.
    """
    parameters = model.parameters() if isinstance(model, nn.Module) else ()
    with torch.random.fork_rng(cuda_devices(*parameters)):
        one, other = (densities(simulate(model, 2)[0]) for _ in range(2))
    for name, site in one.items():
        if site["is_observed"] and not torch.equal(site["log_prob"], other[name]["log_prob"]):
            raise ValueError(
                f"{what} simulates data, and draws of {name_of(model)} leave out '{name}', a "
                "factor or an observation that is always the same: they are no draws of p(x, z)."
            )
