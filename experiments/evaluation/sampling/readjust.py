"""Readjusts the statistics of batch norms to a temperature before sampling."""

import torch
from pyro import poutine
from torch import Tensor, nn

from experiments.inference.handlers import Temperature
from ppl_models.sites import request

__all__ = ["batch_norm_statistics", "has_batch_norm", "readjust"]


def has_batch_norm(model: nn.Module) -> bool:
    """Whether there is anything to readjust."""
    return any(isinstance(part, nn.BatchNorm2d) for part in model.modules())


def batch_norm_statistics(model: nn.Module) -> dict[str, Tensor]:
    """The running means and variances of all batch norms, by name."""
    return {
        f"{name}.{buffer}": value
        for name, part in model.named_modules()
        if isinstance(part, nn.BatchNorm2d)
        for buffer, value in part.named_buffers()
    }


@torch.no_grad()
def readjust(
    model: nn.Module, temperature: float, passes: int = 500, images: int = 16, seed: int = 0
) -> None:
    """Readjust the running statistics of batch norms to draws from the prior.

    At a low temperature, activations differ from those of posterior draws in training.

    Args:
        model: p; left in evaluation mode.
        temperature: temperature of the draws.
        passes: passes of the model, each of which updates the statistics by their momentum.
        images: images per pass.
        seed: seed of the draws.

    References:
        Vahdat & Kautz (2020), section 4 and their published code.
    """
    model.train()
    with torch.random.fork_rng(devices=[]), Temperature(temperature):
        torch.manual_seed(seed)
        for _ in range(passes):
            poutine.trace(model).get_trace(request(model, images))
    model.eval()
