"""The noise and the mean of the gradient of an objective."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import pyro
import torch
from torch import Tensor, nn

from experiments.inference.objectives import Objective
from ppl_models.batch import Batch


class Moments(NamedTuple):
    """Mean and standard deviation of a gradient over draws, all parameters in one row."""

    mean: Tensor
    deviation: Tensor
    draws: int

    @property
    def noise(self) -> float:
        """Root of the summed variances [nats per data point]."""
        return self.deviation.norm().item()

    @property
    def signal_to_noise(self) -> float:
        """Norm of the gradient's mean over the noise; 0 if the draws do not tell it from zero.

        The mean of n draws has a squared norm that is too large by noise^2 / n on average.
        """
        square = self.mean.square().sum().item() - self.noise**2 / self.draws
        return math.sqrt(max(square, 0.0)) / max(self.noise, 1e-300)


def moments(
    model: nn.Module,
    guide: nn.Module,
    objective: Objective,
    batch: Batch,
    parameters: Sequence[nn.Parameter],
    draws: int = 200,
) -> Moments:
    """Moments of the gradient of the loss per data point, over draws of q on one batch.

    The gradient is that of ``parameters``, of p or of q.
    """
    mean: Any = 0.0
    squares: Any = 0.0
    with pyro.validation_enabled(False):
        for draw in range(1, draws + 1):
            loss = objective.differentiable_loss(model, guide, batch) / batch.size
            gradients = torch.autograd.grad(loss, list(parameters), materialize_grads=True)
            row = torch.cat([gradient.flatten() for gradient in gradients]).double()
            # Welford's updates: E g^2 - (E g)^2 would cancel if there is little noise
            difference = row - mean
            mean = mean + difference / draw
            squares = squares + difference * (row - mean)
    return Moments(mean, (squares / (draws - 1)).sqrt(), draws)


def distance(one: Moments, other: Moments) -> tuple[float, float]:
    """The distance of two mean gradients, and the distance expected from noise.

    Both are relative to the norm of the second mean.
    """
    scale = max(other.mean.norm().item(), 1e-300)
    apart = (one.mean - other.mean).norm().item() / scale
    noise = math.hypot(one.noise / one.draws**0.5, other.noise / other.draws**0.5) / scale
    return apart, noise
