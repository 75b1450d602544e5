"""Several processes train as one does: equal to the bit among themselves, and to it to 1e-9."""

import multiprocessing

import pyro
import pyro.distributions as dist
import pytest
import torch
import torch.nn.functional as F
from pyro import poutine
from shared_steps import CASES, in_process
from torch import nn
from torch.multiprocessing import start_processes

from experiments.inference.distributed import Share, sharing
from experiments.inference.global_batch import GlobalBatch, Watch
from ppl_models import Batch, data_plate


@pytest.mark.parametrize("number", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_processes_train_as_one(number, tmp_path, monkeypatch):
    monkeypatch.setenv("PPL_COMPILE", "0")  # several processes' steps are eager
    multiprocessing.set_forkserver_preload(["shared_steps"])  # imported once for all
    start_processes(in_process, (number, tmp_path), number, start_method="forkserver")
    found = [torch.load(tmp_path / f"{rank}-of-{number}.pt") for rank in range(number)]
    for name in found[0]:
        torch.manual_seed(0)
        one, (first, *others) = CASES[name](), [result[name] for result in found]
        for other in others:
            compared(name, other, first, 0)
        compared(name, first, one, 1e-9)
        assert torch.equal(first["random state"], one["random state"])
        assert int(one["skipped"]) == (4 if name.startswith("infinite row") else 0)


def compared(name: str, of: dict, and_of: dict, tolerance: float) -> None:
    assert set(of) == set(and_of)
    for key, value in of.items():
        torch.testing.assert_close(
            value, and_of[key], rtol=tolerance, atol=tolerance, equal_nan=True,
            msg=lambda words, key=key: f"{name}, {key}: {words}",
        )  # fmt: skip


def test_rows_are_all_taken_once():
    for total in (1, 2, 7, 10):
        parts = [share_of(total, rank, 3) for rank in range(3)]
        rows = [row for p in parts if p.weight for row in range(p.start, p.start + p.rows)]
        assert rows == list(range(total))
        assert sum(part.weight for part in parts) == pytest.approx(1, abs=1e-15)
        assert all(part.rows for part in parts)


def share_of(total: int, rank: int, number: int) -> Share:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.inference.distributed.rank", lambda: rank)
        patch.setattr("experiments.inference.distributed.world_size", lambda: number)
        return Share.of(total)


PER_DATUM = {
    "normal": lambda: dist.Normal(torch.zeros(2), torch.ones(2)).to_event(1),
    "uniform": lambda: dist.Uniform(torch.zeros(2), torch.ones(2)).to_event(1),
    "laplace": lambda: dist.Laplace(torch.zeros(2), torch.ones(2)).to_event(1),
    "exponential": lambda: dist.Exponential(torch.ones(2)).to_event(1),
    "cauchy": lambda: dist.Cauchy(torch.zeros(2), torch.ones(2)).to_event(1),
    "gumbel": lambda: dist.Gumbel(torch.zeros(2), torch.ones(2)).to_event(1),
    "log-normal": lambda: dist.LogNormal(torch.zeros(2), torch.ones(2)).to_event(1),
    "bernoulli": lambda: dist.Bernoulli(torch.tensor([0.2, 0.7])).to_event(1),
    "categorical": lambda: dist.Categorical(torch.tensor([0.2, 0.7, 0.1])),
    "covariance": lambda: dist.MultivariateNormal(torch.zeros(2), torch.eye(2)),
}


@pytest.mark.parametrize("particles", [0, 4])
@pytest.mark.parametrize("name", PER_DATUM)
def test_a_process_draws_its_rows_of_what_one_would_draw(name, particles):
    def program(batch):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with data_plate(batch):
            z = pyro.sample("z", PER_DATUM[name]())
            return w, z, F.dropout(z.to(w)), torch.randn(z.shape), torch.rand_like(z.to(w))

    if particles:
        program = pyro.plate("particles", particles, dim=-2)(program)
    whole = Batch.of(torch.zeros(7, 3))
    torch.manual_seed(5)
    w, *draws = program(whole)
    for rank in range(3):
        share = share_of(7, rank, 3)
        torch.manual_seed(5)
        mode = GlobalBatch(share)
        with Watch(mode), mode:
            v, *mine = program(share.batch(whole))
        assert torch.equal(v, w)
        axis = 1 if particles else 0
        for part, draw in zip(mine, draws, strict=True):
            assert torch.equal(part, draw.narrow(axis, share.start, share.rows))


def refused(act) -> None:
    mode, batch = GlobalBatch(Share(0, 2, 4, 0.5)), Batch.of(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="cannot be shared out"), Watch(mode), mode:
        act(batch)


def test_what_cannot_be_shared_out_is_refused_by_name():
    refused(lambda batch: F.dropout(torch.ones(2, 3)))
    attention = nn.MultiheadAttention(4, 2, 0.1)
    refused(lambda batch: attention(*[torch.ones(2, 2, 4)] * 3))
    refused(lambda batch: F.gumbel_softmax(torch.ones(2, 3)))
    refused(lambda batch: torch.batch_norm(
        torch.ones(2, 3), None, None, None, None, True, 0.1, 1e-5, False))  # fmt: skip

    def gamma(batch):
        with data_plate(batch):
            pyro.sample("z", dist.Gamma(torch.ones(3), 1.0).to_event(1))

    def odd(batch):
        with data_plate(batch):
            torch.randn(3)

    refused(gamma)
    refused(odd)


def test_what_draws_nothing_passes():
    mode = GlobalBatch(Share(0, 2, 4, 0.5))
    norm, attention = nn.BatchNorm1d(3).eval(), nn.MultiheadAttention(4, 2)
    with Watch(mode), mode, sharing(mode.share):
        assert torch.equal(F.dropout(torch.ones(2, 3), training=False), torch.ones(2, 3))
        assert norm(torch.ones(2, 3)).shape == (2, 3)
        assert attention(*[torch.ones(2, 2, 4)] * 3)[0].shape == (2, 2, 4)
        assert torch.randn(3).shape == torch.randperm(3).shape == (3,)
        with poutine.block(), data_plate(Batch.of(torch.zeros(2, 3))):
            assert torch.empty(2, 5).normal_().shape == (2, 5)
