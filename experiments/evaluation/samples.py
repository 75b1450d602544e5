"""Drawing from a model: what it believes before it has seen an image."""

import inspect
from typing import Any

import torch
from pyro import poutine
from torch import Tensor, nn

from experiments.data import Data
from experiments.evaluation.bounds import encode, likelihood_at
from experiments.inference.frozen import fit_rows
from experiments.inference.handlers import ObservePixels, Temperature
from guides import allowed_guides
from guides.full_rank import FullRank
from guides.local import PerDatumGuide
from guides.mean_field import MeanField
from ppl_models.program import Batch

__all__ = ["complete", "complete_by_guide", "latent_grid", "prior_means"]


@torch.no_grad()
def prior_means(model: nn.Module, count: int, temperature: float = 1.0, seed: int = 0) -> Tensor:
    """E[x | z] for latents drawn at a temperature, ``[count, *event_shape]``."""
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[]), Temperature(temperature):
        torch.manual_seed(seed)
        trace = poutine.trace(model).get_trace(Batch.draw(count, device))
    return trace.nodes["x"]["fn"].mean


def latent_grid(model: nn.Module, side: int = 15) -> Tensor:
    """E[x | z] over a grid of the prior's quantiles, for a latent z of two dimensions.

    Returns:
        ``[side^2, *event_shape]``, the first row at the highest z_2.
    """
    like = next(model.parameters())
    quantiles = (torch.arange(side, dtype=like.dtype, device=like.device) + 0.5) / side
    axis = torch.special.ndtri(quantiles)
    z2, z1 = torch.meshgrid(axis.flip(0), axis, indexing="ij")
    z = torch.stack([z1, z2], -1).reshape(-1, 2)
    with torch.no_grad():
        return likelihood_at(model, {"z": z}, Batch.draw(len(z), like.device)).mean


@torch.no_grad()
def complete(model: Any, data: Data, mask: Tensor, seed: int = 0) -> tuple[Tensor, str]:
    """E[x | z*] at the mean z* of q(z | observed pixels), ``[N, *event_shape]``.

    The model's own posterior where it takes a mask; elsewhere q is fitted to the observed pixels
    alone, a row per image: the full-rank guide where the model takes it, or the mean-field guide.

    Args:
        model: p.
        data: the images.
        mask: true where a pixel is observed, ``[*event_shape]``.
        seed: of the draws that fit q.

    Returns:
        The completed images, and the name of what inferred them.
    """
    rows = data.fixed().like(model)
    batch = Batch.of(rows.observations())
    assert batch.x is not None
    if hasattr(model, "posterior") and "observed" in inspect.signature(model.posterior).parameters:
        latents = {"z": model.posterior(batch.x, observed=mask).mean}
        return likelihood_at(model, latents, batch).mean, "exact"
    guide = complete_by_guide(model, rows, mask, seed)
    return likelihood_at(model, encode(guide, batch, model), batch).mean, type(guide).__name__


def complete_by_guide(model: Any, data: Data, mask: Tensor, seed: int) -> PerDatumGuide:
    """A row per image, fitted to the observed pixels alone."""
    guide_class = FullRank if "full_rank" in allowed_guides(model) else MeanField
    guide = guide_class(model, size=len(data))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with ObservePixels(mask):
            fit_rows(model, guide, data)
    return guide
