"""Simulated data must be draws from the model's density."""

from typing import Any

import torch
from torch import nn

from experiments.inference.checks.sites import densities, name_of
from experiments.inference.pair import cuda_devices
from ppl_models.sites import simulate

__all__ = ["check_simulates"]


@torch.no_grad()
def check_simulates(model: Any, what: str) -> None:
    """Refuse a model with a factor, or with an observation of a fixed value.

    Such a site changes p(x, z), but not the draws. A site whose density does not depend on the
    draws, such as a given label, changes neither and is accepted.

    Args:
        model: p.
        what: first words of the message.

    Raises:
        ValueError: Naming the site.
    """
    parameters = model.parameters() if isinstance(model, nn.Module) else ()
    with torch.random.fork_rng(cuda_devices(*parameters)):
        one, other = (densities(simulate(model, 2)[0]) for _ in range(2))
    for name, site in one.items():
        if site["is_observed"] and not torch.equal(site["log_prob"], other[name]["log_prob"]):
            raise ValueError(
                f"{what} simulates data, but data drawn from {name_of(model)} ignore '{name}', a "
                "factor or an observation with a fixed value: they are not draws from p(x, z)."
            )
