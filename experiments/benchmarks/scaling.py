"""The time of a step as a function of batch size, particles, groups of latents and processes."""

import tempfile
from functools import partial
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.multiprocessing import get_context, spawn

from experiments.benchmarks.steps import iwae_pair, lab_pair, our_step
from experiments.benchmarks.timing import Timing, in_turns, seconds_of_calls
from experiments.inference.objectives import Objective
from experiments.inference.objectives.nvae import BalancedKL
from experiments.inference.optim import adam
from experiments.inference.parallel import own_rows, start_together
from experiments.inference.svi import SVI
from guides import GUIDES
from ppl_models import NVAE, Batch

BATCHES, PARTICLES, GROUPS = (32, 128, 512, 2048), (1, 5, 50), ((1, 2), (2, 4), (4, 8))
PROCESSES = (1, 2)


def measure_scaling(images: Tensor, rounds: int) -> list[dict[str, Any]]:
    """Milliseconds of a step on images ``[N, 1, 28, 28]``, and per unit of what varies.

    Steps are compiled unless their name says eager.
    """
    rows = []
    for size in BATCHES:
        rows.append(("lab VAE", "B", size, timed(*lab_pair(), images[:size], rounds)))
    for number in PARTICLES:
        timing = timed(*iwae_pair(number), images[:100], rounds)
        rows.append(("IWAE 2 x 200, B = 100", "K", number, timing))
    for groups in GROUPS:
        timing = timed(*nvae(groups), images[:50], rounds, compile=False)
        rows.append(("small NVAE, B = 50, eager", "groups", sum(groups), timing))
    for number in PROCESSES:
        step = "lab VAE, B = 512, eager, on the CPU"
        rows.append((step, "processes", number, shared(images, number)))
    return [
        {
            "step": step,
            "size": name,
            "value": value,
            "median ms": 1e3 * timing.median,
            "ms per one": 1e3 * timing.median / value,
        }
        for step, name, value, timing in rows
    ]


def nvae(groups: tuple[int, ...]) -> tuple[Any, Any, Objective]:
    cells: Any = {"cells_per_block": 1}
    sizes: Any = {"latents": 4, "channels": 8, "blocks": 1, **cells}
    model = NVAE((1, 28, 28), groups, depthwise=False, crop=0, **sizes)
    return model, GUIDES["top_down"](model, **cells), BalancedKL(model.groups_per_scale)


def timed(
    model: Any, guide: Any, objective: Objective, x: Tensor, rounds: int, compile: bool = True
) -> Timing:
    """A step on these images."""
    step = our_step(model, guide, objective, x, compile)
    return in_turns({"step": step}, rounds)["step"]


def shared(images: Tensor, number: int) -> Timing:
    """An eager step on the CPU whose batch and threads several processes share."""
    threads = max(1, torch.get_num_threads() // number)
    results = get_context("spawn").Queue()
    with tempfile.TemporaryDirectory() as folder:
        given = number, threads, f"{folder}/meeting", images[:512].cpu().numpy(), results
        spawn(_share, given, number)
    return Timing.of(results.get())


def _share(rank: int, number: int, threads: int, meeting: str, x: Any, results: Any) -> None:
    torch.set_num_threads(threads)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=number
    )
    batch = Batch(torch.from_numpy(x), torch.arange(len(x)), 60000)
    model, guide, objective = lab_pair()
    svi = SVI(model, guide, adam(model, guide, 1e-3), objective)
    start_together(svi)
    mine = own_rows(batch)
    assert mine is not None
    with pyro.validation_enabled(False):
        seconds = [seconds_of_calls(partial(svi.step, mine)) for _ in range(60)]
    if rank == 0:
        results.put(seconds[20:])  # warm by then
    torch.distributed.destroy_process_group()
