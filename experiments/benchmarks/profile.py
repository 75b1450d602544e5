"""The time of an epoch of the compiled lab VAE by operation, from torch's profiler."""

from typing import Any

from torch.profiler import ProfilerActivity, profile

from experiments.benchmarks.epochs import by_svi
from experiments.data import Data

__all__ = ["profile_epoch"]

PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::linear", "mkl::_mkl_linear")


def profile_epoch(train: Data, batch_size: int, most: int = 8) -> list[dict[str, Any]]:
    """The operations that an epoch's own time is spent in, and the share in matrix products.

    Args:
        train: images.
        batch_size: B.
        most: operations listed.
    """
    epochs = by_svi(train, batch_size, epochs=2, seed=0, compile=True)
    next(epochs), next(epochs)  # compiled by now, and warm
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        seconds = next(epochs).seconds
    own = {event.key: event.self_cpu_time_total / 1e6 for event in seen.key_averages()}
    products = sum(own.get(name, 0.0) for name in PRODUCTS)
    largest = sorted(own.items(), key=lambda item: -item[1])[:most]
    rows = [("all matrix products", products), *largest]
    rows.append(("the epoch, by the clock", seconds))
    return [
        {"operation": name, "seconds": taken, "share": taken / seconds} for name, taken in rows
    ]
