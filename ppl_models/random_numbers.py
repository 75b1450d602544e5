"""Draws after which the state of torch's generators, on GPUs too, is what it was."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch


def gpus_in_use() -> list[int]:
    """All GPUs as soon as one is in use: ``torch.manual_seed`` reaches each of them."""
    return list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []


def forked_rng() -> AbstractContextManager[Any]:
    """Inside, draws go on from the random state; afterwards it is what it was."""
    return torch.random.fork_rng(gpus_in_use())


@contextmanager
def seeded(seed: int = 1) -> Iterator[None]:
    """Inside, draws come from a seed; afterwards the random state is what it was."""
    with forked_rng():
        torch.manual_seed(seed)
        yield
