"""Several processes train as one does: equal to the bit among themselves, and to it to 1e-9."""

from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from shared_steps import CASES, in_process


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[int, list[dict]]:
    """What every process of two, and of three, has after training."""
    folder = tmp_path_factory.mktemp("found")
    results = {}
    for number in (2, 3):
        torch.multiprocessing.spawn(in_process, (number, folder), number)
        results[number] = [
            torch.load(folder / f"{rank}-of-{number}.pt") for rank in range(number)
        ]
    return results


@pytest.fixture(scope="module")
def alone() -> dict[str, dict]:
    """What one process has; every case is trained once."""
    return {}


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("name", CASES)
def test_processes_train_as_one(name, number, found, alone):
    if name not in alone:
        torch.manual_seed(0)
        alone[name] = CASES[name]()
    one, (first, *others) = alone[name], [result[name] for result in found[number]]
    assert set(one) == set(first)
    for other in others:
        for key, value in first.items():
            assert torch.equal(other[key], value) or key == "losses", key
            torch.testing.assert_close(other[key], value, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(first["random state"], one["random state"])
    for key, value in first.items():
        torch.testing.assert_close(value, one[key], rtol=1e-9, atol=1e-9, equal_nan=True)
    assert int(one["skipped"]) == (4 if name == "infinite row" else 0)
