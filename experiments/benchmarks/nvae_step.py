"""Training steps of NVAE, timed beside its own convolutions."""

import collections
import math
import statistics
from typing import Any, NamedTuple

import pyro
import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.benchmarks.timing import seconds_of_calls
from experiments.inference.handlers import TemperKL
from experiments.inference.objectives.nvae import BalancedKL, Regularised
from experiments.inference.objectives.regularisers import (
    SpectralNorm,
    batch_norm_gains,
    convolutions,
)
from experiments.inference.optim import adamax
from experiments.inference.svi import SVI, Pair
from experiments.runs.environment import peak_memory
from ppl_models.batch import Batch


class Call(NamedTuple):
    """Shapes and options of a call of a convolution."""

    image: tuple[int, ...]
    weight: tuple[int, ...]
    output: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    groups: int

    @property
    def flops(self) -> int:
        """Of the forward pass, two per multiply-add; backward has twice as many."""
        return 2 * math.prod(self.output) * math.prod(self.weight[1:])


def step_speed(pair: Pair, rows: int, steps: int) -> dict[str, Any]:
    """Seconds and memory of a step with the whole published recipe, and its rate of arithmetic.

    The images are noise, and one more step, the first, is not timed.

    Returns:
        Median seconds per step; peak memory [GiB], the process's resident one or on a GPU that of
        its tensors; GFLOP/s of a step, counting its convolutions alone, and of these convolutions
        one by one; and the share of the convolutions in the time of a step.
    """
    like = next(pair.parameters())
    x = torch.rand(rows, *pair.model.data_shape, dtype=like.dtype, device=like.device).round()
    batch = Batch.of(x)
    objective = Regularised(
        BalancedKL(pair.model.groups_per_scale),
        [SpectralNorm(pair), lambda: batch_norm_gains(pair)],
        1e-2,
    )
    svi = SVI(pair.model, pair.guide, adamax(pair.model, pair.guide, 1e-5), objective)
    with pyro.validation_enabled(False), TemperKL(0.5):
        times = [seconds_of_calls(lambda: svi.step(batch).item()) for _ in range(steps + 1)]
    peak = peak_memory(x.device)
    calls = calls_of(pair, batch)
    flops = 3 * sum(call.flops * number for call, number in calls.items())
    alone = sum(seconds_of(call, x) * number for call, number in calls.items())
    seconds = statistics.median(times[1:])
    return {
        "batch": rows,
        "seconds per step": seconds,
        "fastest": min(times[1:]),
        "peak memory GiB": peak.get("peak_gpu_gib", peak["peak_gib"]),
        "GFLOP/s of a step": flops / seconds / 1e9,
        "GFLOP/s of its convolutions": flops / alone / 1e9,
        "share": alone / seconds,
    }


def calls_of(pair: Pair, batch: Batch) -> collections.Counter[Call]:
    """Every convolution that guide and model call on a batch, with how often."""
    counted: collections.Counter[Call] = collections.Counter()

    def note(conv: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        shapes = inputs[0].shape, conv.weight.shape, output.shape
        counted[Call(*shapes, conv.stride, conv.padding, conv.groups)] += 1

    hooks = [conv.register_forward_hook(note) for _, conv in convolutions(pair)]
    try:
        with torch.no_grad(), pyro.validation_enabled(False):
            pair.guide(batch)  # which runs the model
    finally:
        for hook in hooks:
            hook.remove()
    return counted


def seconds_of(call: Call, like: Tensor) -> float:
    """The fastest of four forward and backward passes of one convolution."""

    def leaf(shape: tuple[int, ...]) -> Tensor:
        tensor = torch.randn(shape, dtype=like.dtype, device=like.device)
        return tensor.contiguous(memory_format=torch.channels_last).requires_grad_()

    image, weight = leaf(call.image), leaf(call.weight)

    def both_ways() -> None:
        out = F.conv2d(image, weight, None, call.stride, call.padding, groups=call.groups)
        out.backward(out.detach())

    return min(seconds_of_calls(both_ways) for _ in range(4))
