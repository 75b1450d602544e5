"""Drawing from a model: what it believes before it has seen an image."""

import torch
from pyro import poutine
from torch import Tensor, nn

from experiments.data import Data
from experiments.evaluation.bounds import encode, likelihood_at
from experiments.inference.frozen import fit_rows
from experiments.inference.handlers import ObservePixels, Temperature
from guides import allowed_guides
from guides.full_rank import FullRank
from guides.mean_field import MeanField
from ppl_models.program import Batch

__all__ = ["complete", "prior_means"]


@torch.no_grad()
def prior_means(model: nn.Module, count: int, temperature: float = 1.0, seed: int = 0) -> Tensor:
    """E[x | z] for latents drawn at a temperature, ``[count, *event_shape]``."""
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[]), Temperature(temperature):
        torch.manual_seed(seed)
        trace = poutine.trace(model).get_trace(Batch.draw(count, device))
    return trace.nodes["x"]["fn"].mean


def complete(model: nn.Module, data: Data, mask: Tensor, seed: int = 0) -> Tensor:
    """E[x | z*] where z* is the mean of q(z | observed pixels), ``[N, *event_shape]``.

    q is fitted to the observed pixels alone, a row per image: the full-rank guide where the model
    takes it, the mean-field guide elsewhere.

    Args:
        model: p.
        data: the images.
        mask: true where a pixel is observed, ``[*event_shape]``.
        seed: of the draws that fit q.
    """
    rows = data.fixed().like(model)
    guide_class = FullRank if "full_rank" in allowed_guides(model) else MeanField
    guide = guide_class(model, size=len(rows))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with ObservePixels(mask):
            fit_rows(model, guide, rows)
    with torch.no_grad():
        batch = Batch.of(rows.observations())
        return likelihood_at(model, encode(guide, batch, model), batch).mean
