"""Readjusts the statistics of batch norms to a temperature before sampling."""

import torch
from pyro import poutine
from torch import Tensor, nn

from experiments.inference.handlers import Temperature
from ppl_models.sites import request


def batch_norm_statistics(model: nn.Module) -> dict[str, Tensor]:
    """The running means and variances of all batch norms, by name."""
    return {
        f"{name}.{buffer}": value
        for name, part in model.named_modules()
        if isinstance(part, nn.BatchNorm2d)
        for buffer, value in part.named_buffers()
    }


@torch.no_grad()
def readjust(model: nn.Module, temperature: float, passes: int = 500) -> None:
    """Readjust the running statistics of batch norms to draws from the prior, 16 in a pass.

    At a low temperature, activations differ from those of posterior draws in training.

    Args:
        model: p; left in evaluation mode.
        temperature: temperature of the draws.
        passes: passes of the model, each of which updates the statistics by their momentum.

    References:
        Vahdat & Kautz (2020), section 4 and their published code.
    """
    model.train()
    with torch.random.fork_rng(devices=[]), Temperature(temperature):
        torch.manual_seed(0)
        for _ in range(passes):
            poutine.trace(model).get_trace(request(model, 16))
    model.eval()
