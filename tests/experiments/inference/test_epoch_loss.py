"""The loss of an epoch is the mean over its rows, whatever the batches' sizes."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal
from torch.utils.data import DataLoader, SubsetRandomSampler

from experiments.data import as_data
from experiments.data.streams import rows_of
from experiments.inference.fit import Position, fit
from experiments.inference.guard import Guard
from experiments.inference.svi import SVI
from experiments.reports import plots
from guides import GUIDES
from ppl_models import PPCA


def still(rows, guard=False) -> tuple[SVI, torch.Tensor, torch.Tensor]:
    """An SVI whose rate is zero under the exact guide, data with one odd row, their -log p(x)."""
    torch.manual_seed(0)
    x = torch.randn(rows, 6, dtype=torch.float64)
    x[rows // 2] += 30
    model = PPCA(6, 2).double()
    guide = GUIDES["exact"](model)
    svi = SVI(model, guide, torch.optim.SGD(model.parameters(), lr=0.0))
    svi.guard = Guard() if guard else None
    C = model.W @ model.W.mT + model.sigma**2 * torch.eye(6, dtype=torch.float64)
    return svi, x, -MultivariateNormal(model.mu, C).log_prob(x).detach()


@pytest.mark.parametrize(("rows", "size"), [(501, 500), (10, 3), (12, 4), (5, 8), (3, 1)])
def test_every_row_weighs_alike(rows, size):
    svi, x, losses = still(rows)
    for progress in fit(svi, x, epochs=5, batch_size=size):
        assert progress.loss == pytest.approx(losses.mean().item(), rel=1e-12)
    # what patience compares
    assert progress.position.best == pytest.approx(losses.mean().item(), rel=1e-12)


@pytest.mark.parametrize("count", [3, 7, 30])
def test_rows_that_a_sampler_takes_weigh_alike(count):
    svi, x, losses = still(11)
    order = torch.arange(count) % 11  # as of a subset, or with replacement
    loader = DataLoader(x, batch_size=4, sampler=order.tolist())
    *_, last = fit(svi, loader, epochs=2)
    assert last.loss == pytest.approx(losses[order].mean().item(), rel=1e-12)
    assert last.steps == 2 * len(last.losses) == 2 * len(loader)


def test_a_sampler_of_a_subset_makes_it_the_data_set():
    svi, x, _ = still(11)
    loader = DataLoader(x, batch_size=4, sampler=SubsetRandomSampler(range(7)))
    assert next(rows_of(loader, svi.model).minibatches(4, seed=0, epoch=0)).size == 7


def test_an_epoch_that_was_left_goes_on_with_the_rows_it_has_seen():
    svi, x, losses = still(11)
    paused = list(fit(svi, x, epochs=1, batch_size=4, pause=lambda: True))
    assert [progress.complete for progress in paused] == [False, False, False, True]
    first = batches_of(11, 4)[0]
    assert paused[0].loss == pytest.approx(losses[first].mean().item(), rel=1e-12)
    for progress in paused[:3]:
        start = Position(*tuple(progress.position))  # as a checkpoint holds it
        (whole,) = fit(svi, x, epochs=1, batch_size=4, start=start)
        assert whole.loss == pytest.approx(losses.mean().item(), rel=1e-12)


def batches_of(rows: int, size: int) -> list[torch.Tensor]:
    """The rows of every batch of the first epoch."""
    data = as_data(torch.zeros(rows, 6))
    return [batch.index for batch in data.minibatches(size, seed=0, epoch=0)]


@pytest.mark.parametrize("refused", [0, 2])
def test_a_refused_step_is_left_out_with_its_rows(refused):
    svi, x, losses = still(11, guard=True)
    gradients, steps = svi.gradients, iter(range(3))

    def one_is_infinite(batch):
        loss = gradients(batch)
        if next(steps) == refused:
            svi.model.W.grad[0, 0] = math.inf
        return loss

    svi.gradients = one_is_infinite
    (progress,) = fit(svi, x, epochs=1, batch_size=4)
    taken = torch.cat([rows for step, rows in enumerate(batches_of(11, 4)) if step != refused])
    assert progress.loss == pytest.approx(losses[taken].mean().item(), rel=1e-12)
    assert not math.isfinite(progress.losses[refused])


@pytest.mark.parametrize(
    "losses", [[1.0, math.inf, 3.0, 2.0], [math.inf] * 4, [math.nan, 1, 2, 3]]
)
def test_a_curve_is_drawn_of_losses_that_are_not_all_finite(losses):
    axis = plots.loss_curve(losses, 2, "elbo", [2.5, math.nan]).axes[0]
    assert next(iter(axis.lines[1].get_ydata())) == 2.5
    assert all(map(math.isfinite, axis.get_ylim()))
