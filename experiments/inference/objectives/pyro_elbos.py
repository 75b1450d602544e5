"""Losses and gradients of our objectives and of Pyro's, in nats per data point."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pyro
import pyro.infer as infer
import torch
from pyro import poutine
from torch import Tensor, nn

from experiments.inference.checks.pair_check import check_once
from experiments.inference.checks.particles import takes_particles
from experiments.inference.checks.sites import name_of
from experiments.inference.objectives.base import Objective
from experiments.inference.objectives.elbo import ELBO
from ppl_models.batch import Batch
from ppl_models.parameters import own_parameters

IMPOSSIBLE: dict[type, str] = {
    infer.JitTrace_ELBO: "traces modules once and for all; use compile=True",
    infer.JitTraceMeanField_ELBO: "traces modules once and for all; use compile=True",
    infer.JitTraceGraph_ELBO: "traces modules once and for all; use compile=True",
    infer.JitTraceEnum_ELBO: "traces modules once and for all; use compile=True",
    infer.ReweightedWakeSleep: "has two losses; use IWAE or DReG",
    infer.TraceTailAdaptive_ELBO: "has a gradient without a loss; use Renyi",
    infer.Trace_MMD: "is no bound",
}


def objective_of(loss: Any) -> Any:
    """What ``SVI`` takes as ``loss``: one of our objectives or a Pyro ELBO; ``ELBO`` for None.

    Raises:
        TypeError: If it is something else, or an ELBO that cannot be used so.
    """
    if loss is None:
        return ELBO()
    for kind, reason in IMPOSSIBLE.items():
        if isinstance(loss, kind):
            raise TypeError(f"loss={type(loss).__name__} {reason}.")
    if not isinstance(loss, infer.ELBO):
        name = loss.__name__ if isinstance(loss, type) else type(loss).__name__
        raise TypeError(
            f"loss is {name}: give one of experiments.inference.objectives, such as ELBO(), or a "
            "pyro.infer ELBO, such as Trace_ELBO()."
        )
    return loss


def add_gradients(objective: Any, model: Any, guide: Any, batch: Batch) -> Tensor:
    """Add the loss's gradient to the parameters'; the loss, detached [nats per data point]."""
    with _checked(objective, model, guide, batch):
        if hasattr(objective, "differentiable_loss"):
            loss = objective.differentiable_loss(model, guide, batch) / batch.size
            loss.backward()
            return loss.detach()
        # Other losses take gradients of what they find in the parameter store, of the sum of rows.
        with pyro.get_param_store().scope(), poutine.trace(param_only=True):
            total = objective.loss_and_grads(model, guide, batch)
    parameters = {*model.parameters(), *guide.parameters()}  # shared ones once
    gradients = [p.grad for p in parameters if p.grad is not None]
    torch._foreach_div_(gradients, batch.size)
    return like_parameters(total / batch.size, model, guide)


def _checked(objective: Any, model: Any, guide: Any, batch: Batch) -> AbstractContextManager[None]:
    """Checks a pair and its parameters under Pyro's losses; our objectives do so themselves."""
    if isinstance(objective, Objective):
        return nullcontext()
    apart = objective.num_particles if objective.vectorize_particles else 1
    check_once(model, guide, batch, isinstance(objective, infer.TraceEnum_ELBO), apart)
    if apart > 1 and not takes_particles(model):
        raise ValueError(
            f"{name_of(model)} mixes the particles of {type(objective).__name__}: take one of our "
            "objectives, or vectorize_particles=False."
        )
    return own_parameters(model, guide)


def like_parameters(value: float, *programs: Any) -> Tensor:
    """A number in the programs' dtype and on their device: what our own losses are."""
    modules = nn.ModuleList(p for p in map(poutine.unwrap, programs) if isinstance(p, nn.Module))
    held = (*modules.parameters(), *modules.buffers())
    like = next((tensor for tensor in held if tensor.is_floating_point()), torch.empty(()))
    return like.detach().new_tensor(value)


@torch.no_grad()
def loss_of(objective: Any, model: Any, guide: Any, batch: Batch) -> Tensor:
    """The loss on a batch, a detached tensor [nats per data point]."""
    with _checked(objective, model, guide, batch):
        if isinstance(objective, Objective):
            return objective.differentiable_loss(model, guide, batch) / batch.size
        total = objective.loss(model, guide, batch)
    return like_parameters(total / batch.size, model, guide)
