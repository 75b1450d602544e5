"""Training steps of NVAE, timed beside its own convolutions."""

import statistics
from typing import Any

import pyro
import torch

from experiments.benchmarks.convolutions import calls_of, seconds_of
from experiments.benchmarks.timing import seconds_of_calls
from experiments.inference.handlers import TemperKL
from experiments.inference.objectives.nvae import BalancedKL, Regularised
from experiments.inference.objectives.regularisers import SpectralNorm, batch_norm_gains
from experiments.inference.optim import adamax
from experiments.inference.svi import SVI, Pair
from experiments.runs.environment import peak_memory
from ppl_models.batch import Batch


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
