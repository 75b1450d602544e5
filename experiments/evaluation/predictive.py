"""Posterior predictive checks: do data simulated from the fitted model look like the data?"""

from collections.abc import Callable
from typing import Any

import torch
from pyro import poutine
from torch import Tensor, nn

from experiments.data import Data
from experiments.inference.checks.masks import mask_of
from experiments.inference.checks.rows import check_local
from experiments.inference.checks.simulations import check_simulates
from experiments.inference.frozen import evaluated
from experiments.inference.summed_runs import draw_of_sums
from ppl_models.batch import Batch
from ppl_models.observing import rows_first
from ppl_models.sites import describe, observation


def _largest_eigenvalue(x: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(x - x.mean(0), 2).square() / len(x)


STATISTICS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": torch.mean,
    "standard deviation": torch.std,
    "standard deviation of a datum's mean": lambda x: x.mean(1).std(),
    "largest value": torch.max,
    "largest eigenvalue of the covariance": _largest_eigenvalue,
}
"""Statistics of a data set ``[N, D]``."""


@evaluated
@torch.no_grad()
def replicated_sets(
    model: nn.Module, guide: nn.Module | None, data: Data, sets: int = 1, rows: int = 500
) -> Tensor:
    """Replicates of ``data``, ``[sets, N, *data_shape]``, with z from q(z | x), or p(z) without q.

    Only the latents are replayed into the model; x is drawn, ``rows`` at a time. Values that a
    mask leaves out are those of the data.

    Raises:
        ValueError: If the model has a global latent, or a factor of what is drawn.
    """
    check_local(model, "a replicated data set")
    check_simulates(model, "a predictive check", latents_given=guide is not None)
    return torch.stack([_replicate(model, guide, data, rows) for _ in range(sets)])


def _replicate(model: nn.Module, guide: nn.Module | None, data: Data, rows: int) -> Tensor:
    parts, latents, site = [], describe(model).latents, observation(model)
    for batch in data.batches(rows):
        story: Any = model
        if guide is not None:
            drawn = poutine.trace(guide).get_trace(batch).nodes
            z = {name: drawn[name]["value"] for name in latents}
            story = poutine.condition(model, z | draw_of_sums(model, z, batch))
        nodes = poutine.trace(story).get_trace(batch.unobserved()).nodes
        parts.append(_with_masked(nodes[site], batch))
    return torch.cat(parts)


def _with_masked(site: Any, batch: Batch) -> Tensor:
    """A draw of the rows, with the data's own values where a mask leaves them out."""
    drawn, mask = rows_first(site), mask_of(site)
    if mask is True:
        return drawn
    counted = torch.as_tensor(mask, device=drawn.device).expand(site["value"].shape)
    return torch.where(rows_first(site, counted), drawn, batch.only)


def tail_areas(x: Tensor, replicated: Tensor) -> list[dict[str, Any]]:
    """The rank of each statistic of the data among those of replicated data sets.

    Args:
        x: ``[N, D]``.
        replicated: ``[K, N, D]``.

    Returns:
        One row per statistic; its tail area is the share of replicated sets above the data, with
        ties counted half: near 0 or 1, the model does not produce such data.

    References:
        Gelman, Meng & Stern (1996).
    """
    rows = []
    for name, statistic in STATISTICS.items():
        observed = statistic(x)
        others = torch.stack([statistic(one) for one in replicated])
        above = (others > observed) + 0.5 * (others == observed)
        rows.append(
            {
                "statistic": name,
                "observed": observed.item(),
                "replicated": others.mean().item(),
                "sd": others.std().item(),
                "tail area": above.double().mean().item(),
            }
        )
    return rows
