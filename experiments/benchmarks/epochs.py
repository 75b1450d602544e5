"""Seconds of an epoch of the lab's VAE, by implementation and by operation."""

import statistics
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader

from experiments.benchmarks.handwritten import HandwrittenVAE, PerItem, stepper
from experiments.benchmarks.timing import seconds_of_calls
from experiments.data import Data
from experiments.inference.fit import fit
from experiments.inference.objectives import AnalyticKL
from experiments.inference.optim import adam, constant
from experiments.inference.svi import SVI
from guides import GUIDES
from ppl_models import VAE

PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::linear", "mkl::_mkl_linear")


def measure_epochs(train: Data, batch_size: int, epochs: int, seed: int) -> list[dict[str, Any]]:
    """Seconds per epoch; implementations take turns, and the first epoch of each is not timed."""
    loader = DataLoader(PerItem(train), batch_size, shuffle=True)

    def in_memory() -> Iterator[Tensor]:
        for index in torch.randperm(len(train)).split(batch_size):
            yield train.pixels[index].float() / train.levels

    ways: dict[str, Iterator[Any]] = {
        "per-item DataLoader, hand-written": by_hand(train, lambda: (x for x, _ in loader), seed),
        "tensors in memory, hand-written": by_hand(train, in_memory, seed),
        "ppl-models, eager": by_svi(train, batch_size, epochs, seed, compile=False),
        "ppl-models, compiled": by_svi(train, batch_size, epochs, seed, compile=True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for epoch in range(epochs + 1):
        for name, way in ways.items():
            taken = seconds_of_calls(way.__next__)
            if epoch:
                seconds[name].append(taken)
    slowest = statistics.median(next(iter(seconds.values())))
    return [
        {
            "way": name,
            "of the per-item loop": statistics.median(times) / slowest,
            "seconds per epoch, median": statistics.median(times),
            "fastest": min(times),
            "slowest": max(times),
        }
        for name, times in seconds.items()
    ]


def by_hand(train: Data, batches: Callable[[], Iterator[Tensor]], seed: int) -> Iterator[None]:
    """The lab's loop, one epoch for every value asked for."""
    torch.manual_seed(seed)
    device = train.pixels.device
    step = stepper(HandwrittenVAE(train.data_dim).to(device), lr=0.01)
    while True:
        for x in batches():
            step(x.to(device).flatten(1))
        yield


def by_svi(train: Data, batch_size: int, epochs: int, seed: int, compile: bool) -> Iterator[Any]:
    """The same with this project's ``fit``, for one epoch more than ``epochs``."""
    torch.manual_seed(seed)
    model = VAE(tuple(train.image_shape)).to(train.pixels.device)
    guide = GUIDES["amortized"](model)
    svi = SVI(model, guide, adam(model, guide, 0.01), AnalyticKL(), compile=compile)
    return fit(svi, train, epochs + 1, batch_size, constant(), seed)


def profile_epoch(train: Data, batch_size: int) -> list[dict[str, Any]]:
    """The eight largest operations of a compiled epoch by their own time, after all products."""
    epochs = by_svi(train, batch_size, epochs=2, seed=0, compile=True)
    next(epochs), next(epochs)  # compiled by now, and warm
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        seconds = next(epochs).seconds
    own = {event.key: event.self_cpu_time_total / 1e6 for event in seen.key_averages()}
    products = sum(own.get(name, 0.0) for name in PRODUCTS)
    largest = sorted(own.items(), key=lambda item: -item[1])[:8]
    rows = [("all matrix products", products), *largest, ("the epoch, by the clock", seconds)]
    return [
        {"operation": name, "seconds": taken, "share": taken / seconds} for name, taken in rows
    ]
