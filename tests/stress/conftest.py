"""The finished runs that several stress tests copy."""

from pathlib import Path

import pytest
import torch

from tests.shared.pictures import undrawn
from tests.stress.fuzz import stock


@pytest.fixture(scope="session")
def finished_runs(tmp_path_factory) -> Path:
    torch.set_default_dtype(torch.float32)
    with undrawn():
        return stock(tmp_path_factory.mktemp("stock"))
