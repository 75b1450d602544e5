"""Real MNIST, read once, and its moments, computed once: most of the time of the tests on it."""

import functools

import pytest
from torch import Tensor

from experiments.data import load
from ppl_models import pca

_once = functools.cache(pca._moments)


@pytest.fixture(scope="session")
def _mnist(mnist_root) -> list[Tensor]:
    return [part.observations().flatten(1).double() for part in load("mnist", mnist_root)]


@pytest.fixture(scope="module")
def pixels(_mnist):
    """Training and test images, ``[N, 784]``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pca, "_moments", _once)
        yield _mnist
