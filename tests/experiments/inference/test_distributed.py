"""Two processes: equal to the bit among themselves, and to one process with the same noise."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.inference import parallel
from experiments.inference.compiled.loss_module import laid_out
from ppl_models import Batch
from tests.experiments.inference.steps_of_processes import ALIKE, AS_ONE, in_process
from tests.shared.forked import Child, start


def test_two_processes_train_as_one(tmp_path):
    def process(rank: int) -> Child:
        def train() -> None:
            in_process(rank, 2, tmp_path)
            raise SystemExit

        return start([], tmp_path, tmp_path / f"said-{rank}", train)

    for child in [process(rank) for rank in range(2)]:
        ended = child.wait()
        assert ended.code == 0, ended.err
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


@pytest.mark.parametrize("reads", [True, False])
def test_rows_that_one_process_reads_have_a_sparse_mean_in_both(reads, monkeypatch):
    """Else they would enter the clipping norm of the other alone."""
    sent: list[Tensor] = []
    monkeypatch.setattr(parallel, "world_size", lambda: 2)

    def mean(reads: bool) -> Tensor:
        rows = nn.Parameter(torch.zeros(4, 2))
        if reads:
            F.embedding(torch.tensor([1]), rows, sparse=True).sum().backward()
        parallel.average_gradients(torch.tensor(0.0), [rows])
        return rows.grad

    monkeypatch.setattr(parallel.processes, "all_reduce", lambda own: sent.append(own.clone()))
    mean(not reads)  # what the other process sends
    monkeypatch.setattr(parallel.processes, "all_reduce", lambda own: own.add_(sent[0]))
    found = mean(reads)
    assert found.is_sparse
    assert found.to_dense().tolist() == [[0, 0], [0.5, 0.5], [0, 0], [0, 0]]


def test_a_mean_gradient_has_the_strides_of_its_parameter(monkeypatch):
    """As fused optimizers take for granted."""
    monkeypatch.setattr(parallel, "world_size", lambda: 2)
    monkeypatch.setattr(parallel.processes, "all_reduce", lambda own: own.mul_(2))
    weight = nn.Parameter(torch.randn(2, 3, 2, 2).to(memory_format=torch.channels_last))
    weight.square().sum().backward()
    parallel.average_gradients(torch.tensor(0.0), [weight])
    assert weight.grad.stride() == weight.stride() != weight.contiguous().stride()
    torch.testing.assert_close(weight.grad, 2 * weight.detach())


def test_a_mean_has_its_parameters_strides_whatever_those_of_the_gradient(monkeypatch):
    """A hook may leave a view there, such as one number for all entries."""
    monkeypatch.setattr(parallel, "world_size", lambda: 2)
    monkeypatch.setattr(parallel.processes, "all_reduce", lambda own: own.mul_(2))
    weight = nn.Parameter(torch.randn(2, 3).mT)
    weight.grad = torch.tensor(3.0).expand(3, 2)
    loss = parallel.average_gradients(torch.tensor(1.0), [weight])
    assert weight.grad.stride() == weight.stride() == (1, 3)
    assert weight.grad.tolist() == [[3.0, 3.0]] * 3
    assert loss.untyped_storage().nbytes() == loss.nbytes  # an epoch keeps the losses of its steps


def test_a_gradient_is_not_copied_for_the_stride_of_a_single_entry():
    """As of convolutions of size 1, which are channels-last."""
    weight = nn.Parameter(torch.randn(4, 1, 1, 3).permute(0, 3, 1, 2))
    gradient = torch.randn(4, 3, 1, 1)
    assert gradient.stride() != weight.stride()
    assert laid_out(gradient, weight) is gradient


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
