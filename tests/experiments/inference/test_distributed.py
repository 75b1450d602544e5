"""Two processes: equal to the bit among themselves, and to one process with the same noise."""

import multiprocessing
from functools import partial

import pytest
import torch
from torch.multiprocessing import start_processes

from experiments.inference import parallel
from ppl_models import Batch
from tests.experiments.inference import steps_of_processes
from tests.experiments.inference.steps_of_processes import ALIKE, AS_ONE, in_process


def test_two_processes_train_as_one(tmp_path):
    multiprocessing.set_forkserver_preload([steps_of_processes.__name__])  # imported once for all
    start_processes(in_process, (2, tmp_path), 2, start_method="forkserver")
    first, second = (torch.load(tmp_path / f"{rank}-of-2.pt") for rank in range(2))
    for name in AS_ONE | ALIKE:
        compared(name, second[name], first[name], 0)
    for name, case in AS_ONE.items():
        torch.manual_seed(0)
        compared(name, first[name], case(), 1e-9)


def compared(name: str, of: dict, and_of: dict, tolerance: float) -> None:
    assert set(of) == set(and_of)
    for key, value in of.items():
        torch.testing.assert_close(
            value,
            and_of[key],
            rtol=tolerance,
            atol=tolerance,
            equal_nan=True,
            msg=lambda words, key=key: f"{name}, {key}: {words}",
        )


@pytest.mark.parametrize(("rows", "number", "each"), [(6, 3, 2), (7, 3, 2), (3, 3, 1), (2, 3, 0)])
def test_each_process_takes_as_many_rows(rows, number, each, monkeypatch):
    monkeypatch.setattr(parallel, "world_size", lambda: number)
    batch = Batch.of(torch.arange(rows).double()[:, None])
    parts = []
    for rank in range(number):
        monkeypatch.setattr(parallel, "rank", partial(int, rank))
        parts.append(parallel.own_rows(batch))
    if each == 0:
        assert parts == [None] * number
        return
    assert torch.cat([part.index for part in parts]).tolist() == list(range(number * each))
    assert all(torch.equal(part.x[:, 0].long(), part.index) for part in parts)
    assert {part.size for part in parts} == {rows}
