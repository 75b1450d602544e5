"""Contexts that restore the random state of torch afterwards, also on GPUs."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch


def gpus_in_use() -> list[int]:
    """All GPUs as soon as one is in use: ``torch.manual_seed`` reaches each of them."""
    return list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []


def forked_rng() -> AbstractContextManager[Any]:
    """Draws inside continue from the random state, which is restored afterwards."""
    return torch.random.fork_rng(gpus_in_use())


@contextmanager
def seeded(seed: int = 1) -> Iterator[None]:
    """Draws inside start from a seed; the random state is restored afterwards."""
    with forked_rng():
        torch.manual_seed(seed)
        yield
