"""What every objective is: a Pyro ELBO that never synchronises inside a step."""

from collections.abc import Callable
from typing import Any

import pyro.infer
import torch
from pyro.poutine.trace_struct import Trace
from torch import Tensor, nn

from experiments.inference.traces import traces
from ppl_models.batch import Batch


class Objective(pyro.infer.ELBO):
    """A bound with a ``differentiable_loss``: its negative, summed over the data set [nats].

    Args:
        particles: K, Monte-Carlo draws per datum.

    Raises:
        ValueError: If ``particles`` is below 1.
    """

    latents = True
    """Whether the bound is made of the latents' log-densities."""

    def __init__(self, particles: int = 1) -> None:
        if particles < 1:
            raise ValueError(f"particles={particles} must be at least 1.")
        super().__init__(num_particles=particles, vectorize_particles=True)
        self.sampled_sites: list[str] = []

    def _get_trace(self, model: Callable, guide: Callable, args: Any, kwargs: Any) -> Any:
        (batch,) = args
        return traces(model, guide, batch, self.num_particles, self.latents)

    def bound(self, model_trace: Trace, guide_trace: Trace, batch: Batch) -> Tensor:
        """The quantity to maximise, summed over the data set [nats]."""
        raise NotImplementedError

    def mean(self, total: Any) -> Any:
        """A sum over particles divided by K, without a division if K is 1."""
        return total if self.num_particles == 1 else total / self.num_particles

    def differentiable_loss(self, model: Callable, guide: Callable, batch: Batch) -> Tensor:
        model_trace, guide_trace = traces(model, guide, batch, self.num_particles, self.latents)
        return -self.bound(model_trace, guide_trace, batch)

    def why_eager(self, model: Callable, guide: Callable, batch: Batch) -> str | None:
        """Why a step on such a batch cannot be compiled, if the objective is the reason."""
        return None

    def loss(self, model: Callable, guide: Callable, batch: Batch) -> float:
        with torch.no_grad():
            return self.differentiable_loss(model, guide, batch).item()

    def loss_and_grads(self, model: Callable, guide: Callable, batch: Batch) -> float:
        loss = self.differentiable_loss(model, guide, batch)
        if loss.requires_grad:
            loss.backward()
        return loss.item()


def penalties_of(objective: Any) -> list[Any]:
    """Parts of an objective that keep something from step to step."""
    parts = getattr(objective, "penalties", ())
    return [part for part in parts if isinstance(part, nn.Module)]
