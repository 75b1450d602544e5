"""The No-U-Turn sampler on a model with global latents: the reference for every guide."""

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pyro
import torch
from pyro.infer import MCMC, NUTS
from pyro.infer.autoguide.initialization import init_to_uniform, init_to_value
from pyro.infer.mcmc.util import initialize_model
from torch import Tensor, nn
from tqdm import tqdm

from experiments.errors import UsageError
from experiments.inference.compiled.graph import Graph, compiled, traced
from ppl_models.batch import Batch

TIMED_FROM = 1_000_000
"""The cost of sampling is only estimated for data with more numbers than this."""

MOST_DAYS = 0.5
"""Maximum duration of the chains [days]."""

USUAL_GRADIENTS = 127
"""Gradients per draw: seven doublings of the trajectory."""

Latents = dict[str, Tensor]

JITTER = 0.02
"""Spread of the chains around the start, in unconstrained coordinates. Chains should not begin at
the same point, nor so far from the bulk of the posterior that they end in another mode."""


class Chains(NamedTuple):
    """Draws of every latent ``[chains, draws, *event]``, and the number of divergences."""

    draws: Latents
    divergences: int


def nuts(
    model: nn.Module,
    batch: Batch,
    draws: int = 1000,
    tune: int = 1000,
    chains: int = 4,
    target: float = 0.8,
    compile: bool = False,
    progress: bool = True,
    start: Latents | None = None,
) -> Chains:
    """Run the chains one after the other, each from a different start.

    Args:
        model: p, all of whose latents are sampled.
        batch: all data.
        draws: number of draws to keep per chain.
        tune: number of warm-up draws per chain, which tune step sizes and masses.
        chains: number of chains.
        target: target of the acceptance rate.
        compile: compile the potential and its gradient into one graph, which takes ten seconds and
            pays off for chains of minutes.
        progress: show progress bars.
        start: values near which every chain starts; by default at random.

    Raises:
        UsageError: If sampling would take more than ``MOST_DAYS``; the message gives an estimate.

    References:
        Hoffman & Gelman (2014).
    """
    check_cost(model, batch, chains * (draws + tune))
    found: list[Latents] = []
    divergences, graph = 0, None
    for _ in range(chains):
        with pyro.validation_enabled(False):
            strategy = init_to_value(values=start) if start else init_to_uniform
            at, potential, transforms, _ = initialize_model(
                model, (batch,), init_strategy=strategy
            )
            if start:
                at = {name: z + JITTER * torch.randn_like(z) for name, z in at.items()}
            if compile:
                graph = graph or compile_gradient(potential, at)
                potential = partial(_Graphed.of, graph)
            kernel = NUTS(potential_fn=potential, target_accept_prob=target, transforms=transforms)
            mcmc = MCMC(kernel, draws, tune, initial_params=at, disable_progbar=not progress)
            mcmc.run()
        tqdm.write(f"chain {len(found) + 1} of {chains} done", file=sys.stderr)
        divergences += sum(len(rows) for rows in mcmc.diagnostics()["divergences"].values())
        found.append(mcmc.get_samples())
    together = {name: torch.stack([chain[name] for chain in found]) for name in found[0]}
    return Chains(together, divergences)


def compile_gradient(potential: Callable[[Latents], Tensor], start: Latents) -> Graph:
    """The potential and its gradient as one graph, without Pyro's or autograd's part in it."""

    def with_gradient(*values: Tensor) -> tuple[Tensor, ...]:
        leaves = [value.detach().requires_grad_() for value in values]
        energy = potential(dict(zip(start, leaves, strict=True)))
        return energy.detach(), *torch.autograd.grad(energy, leaves)

    values = list(start.values())
    return compiled(traced(with_gradient, values, owner=None), values)


class _Graphed(torch.autograd.Function):
    """A potential whose gradient comes with it."""

    @staticmethod
    def of(graph: Graph, z: Latents) -> Tensor:
        energy: Any = _Graphed.apply(graph, *z.values())
        return energy

    @staticmethod
    def forward(ctx: Any, graph: Graph, *values: Tensor) -> Tensor:
        energy, *ctx.gradients = graph(*(value.detach() for value in values))
        return energy

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> Any:
        return None, *(scale * gradient for gradient in ctx.gradients)


def check_cost(model: nn.Module, batch: Batch, draws: int) -> None:
    """Time a gradient, and refuse to sample if it would take more than ``MOST_DAYS``."""
    if batch.only.numel() <= TIMED_FROM:
        return
    seconds = seconds_of_gradient(model, batch)
    days = draws * USUAL_GRADIENTS * seconds / 86400
    if days <= MOST_DAYS:
        return
    raise UsageError(
        f"NUTS on {len(batch.index)} data of {batch.only[0].numel()} numbers: one gradient takes "
        f"{seconds:.2f} s, {draws} draws of some {USUAL_GRADIENTS} gradients {days:.1f} days. "
        f"Take fewer with --rows, or a guide."
    )


def seconds_of_gradient(model: nn.Module, batch: Batch, rows: int = 1000) -> float:
    """Of the log joint at a draw from the prior: that of some rows, times as many as there are."""
    few = Batch.of(batch.only[:rows])
    start, potential, *_ = initialize_model(model, (few,))
    leaves: dict[str, Any] = {name: z.detach().requires_grad_() for name, z in start.items()}
    for _ in range(2):  # the first call is not timed
        began = time.perf_counter()
        torch.autograd.grad(potential(leaves), list(leaves.values()))
        seconds = time.perf_counter() - began
    return seconds * len(batch.index) / len(few.index)
