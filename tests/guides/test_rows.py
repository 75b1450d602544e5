"""Guides that own a row per datum, and the project's own optimisers."""

import copy

import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO

from experiments.data import as_data
from experiments.errors import TrainingError, UsageError
from experiments.evaluation.metrics import measure
from experiments.inference.fit import fit
from experiments.inference.frozen import announce_rows, fit_rows, frozen, held_out
from experiments.inference.optim import Muon, RowAdam, constant, cosine, orthogonal
from experiments.inference.svi import SVI
from guides import GUIDES
from guides.local import LocalTable, PerDatumGuide
from ppl_models import PPCA, Batch

PER_DATUM = ("point", "mean_field", "full_rank")


def test_row_adam_is_adam_when_every_row_is_touched():
    table = LocalTable(4, torch.ones(3))
    twin = torch.nn.Parameter(table.rows.detach().clone())
    rows, adam = RowAdam([table], 0.1, (0.9, 0.99)), torch.optim.Adam([twin], 0.1, (0.9, 0.99))
    batch = Batch(None, torch.arange(4), 4)
    for step in range(20):
        table(batch).square().sum().mul(step + 1).backward()
        twin.square().sum().mul(step + 1).backward()
        for optimizer in (rows, adam):
            optimizer.step()
            optimizer.zero_grad()
    torch.testing.assert_close(table.rows, twin)


def test_row_adam_touches_the_rows_of_the_batch_alone():
    table = LocalTable(6, torch.ones(2))
    table.sparse = True  # as SVI does during a step
    optimizer = RowAdam([table])
    before = table.rows.detach().clone()
    table(Batch(None, torch.tensor([4, 1]), 6)).sum().backward()
    assert table.rows.grad.is_sparse
    optimizer.step()
    changed = (table.rows != before).any(1)
    assert changed.tolist() == [False, True, False, False, True, False]
    state = optimizer.state[table.rows]
    assert state["step"].flatten().tolist() == [0, 1, 0, 0, 1, 0]
    assert (state["exp_avg"][[0, 2, 3, 5]] == 0).all()


@pytest.mark.parametrize("name", PER_DATUM)
def test_rows_of_another_data_set_are_refused(name):
    model = PPCA(5, 2)
    guide = GUIDES[name](model).for_data(8)
    with pytest.raises(ValueError, match=r"guide.for_data\(9\) returns a guide"):
        guide(Batch.of(torch.randn(9, 5)))


@pytest.mark.parametrize("name", PER_DATUM)
def test_held_out_rows_are_fresh_and_leave_the_trained_ones_alone(name):
    x = torch.randn(20, 5)
    model = PPCA.maximum_likelihood(x, 2)
    guide = GUIDES[name](model, local_steps=30).for_data(20)
    for _ in fit(SVI(model, guide), x, epochs=3):
        pass
    trained = {key: value.clone() for key, value in guide.state_dict().items()}
    parameters = {key: value.clone() for key, value in model.state_dict().items()}
    sibling = held_out(model, guide, as_data(torch.randn(7, 5)))
    assert sibling is not guide
    assert all((trained[key] == value).all() for key, value in guide.state_dict().items())
    assert all((parameters[key] == value).all() for key, value in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())
    sibling(Batch.of(torch.randn(7, 5)))


@pytest.mark.parametrize("copied", [False, True])
def test_trained_rows_never_serve_other_data_of_that_size(copied):
    """Not inside the loop of the first epoch, and not in a copy."""
    x, others = torch.randn(2, 20, 5)
    model = PPCA.maximum_likelihood(x, 2).requires_grad_(False)
    guide = GUIDES["mean_field"](model, local_steps=30).for_data(20)
    for _ in fit(SVI(model, guide), x, epochs=1):
        p, q = copy.deepcopy((model, guide)) if copied else (model, guide)
        assert measure(p, q, as_data(x)).guide is q
        assert measure(p, q, as_data(others)).guide is not q


def test_guides_without_rows_are_their_own_sibling():
    model = PPCA(5, 2)
    for name in ("prior", "exact", "amortized"):
        guide = GUIDES[name](model)
        assert guide.for_data(99) is guide


@pytest.mark.parametrize("name", PER_DATUM)
def test_rows_belong_to_their_own_optimiser(name):
    x = torch.randn(10, 4)
    model = PPCA(4, 2)
    guide = GUIDES[name](model).for_data(10)
    both = torch.optim.Adam([*model.parameters(), *guide.parameters()])
    with pytest.raises(ValueError, match="their own optimizer"):
        SVI(model, guide, both)
    svi = SVI(model, guide)
    svi.step(Batch.of(x))
    with pyro.get_param_store().scope():  # Pyro's own SVI can go on with the same guide
        theirs = pyro.infer.SVI(model, guide, pyro.optim.Adam({}), Trace_ELBO())
        before = [p.detach().clone() for p in guide.parameters()]
        theirs.step(Batch.of(x))
        for old, new in zip(before, guide.parameters(), strict=True):
            assert (old != new).any(1).all()


def test_rows_that_diverge_are_reported():
    x = torch.randn(10, 4)
    model = PPCA(4, 2).requires_grad_(False)
    guide = GUIDES["mean_field"](model, local_lr=1e300, local_steps=5).for_data(10)
    with pytest.raises(TrainingError, match="diverged"):
        fit_rows(model, guide, as_data(x))


def test_a_step_without_anything_to_train_is_refused():
    model = PPCA(4, 2).requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to train"):
        SVI(model, GUIDES["exact"](model)).step(Batch.of(torch.randn(3, 4)))


def test_frozen_puts_everything_back():
    model = PPCA(5, 2)
    model.mu.requires_grad_(False)
    with frozen(model):
        assert not any(p.requires_grad for p in model.parameters())
        assert not model.training
    assert [p.requires_grad for p in model.parameters()] == [True, False, True]
    assert model.training


def test_point_guide_finds_the_posterior_mean():
    x = torch.randn(15, 6)
    model = PPCA.maximum_likelihood(x, 2)
    guide = GUIDES["point"](model).for_data(15)
    fit_rows(model, guide, as_data(x))
    torch.testing.assert_close(guide(Batch.of(x))["z"], model.posterior(x).mean, rtol=0, atol=1e-4)


def test_a_table_beyond_memory_or_without_fixed_pixels_is_refused():
    model = PPCA(4, 2)
    data = as_data(torch.rand(10, 4))
    guide = GUIDES["full_rank"](model)
    assert "10 rows, 50 numbers" in announce_rows(guide, data, 1.0)
    with pytest.raises(UsageError, match="more than --memory"):
        announce_rows(guide, data, 1e-9)
    with pytest.raises(UsageError, match="--binarize static"):
        announce_rows(guide, data.binarized("dynamic", 0), 1.0)


class Wide(PerDatumGuide):
    """A guide with an option of its own."""

    def __init__(self, model, size=0, local_lr=0.1, local_steps=500, width=1.0):
        super().__init__(model, size, local_lr, local_steps, width=width)
        self.width = width


def test_a_guide_for_other_data_has_the_options_of_this_one():
    guide = Wide(PPCA(4, 2), 3, local_lr=0.2, local_steps=7, width=2.0)
    guide.local_lr = 0.3
    other = guide.for_data(5)
    assert (other.size, other.local_lr, other.local_steps, other.width) == (5, 0.3, 7, 2.0)


@pytest.mark.parametrize("options", [{"local_lr": 0.0}, {"local_steps": 0}, {"size": -1}])
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match="must"):
        GUIDES["mean_field"](PPCA(4, 2), **options)


def test_schedules():
    assert cosine()(0.0) == 1
    assert cosine()(0.5) == pytest.approx(0.5)
    assert cosine()(1.0) == pytest.approx(0)
    assert cosine(0.2)(0.1) == pytest.approx(0.5)
    assert cosine(0.2)(0.2) == 1
    assert constant()(0.7) == 1
    assert constant(0.2)(0.1) == pytest.approx(0.5)


@pytest.mark.parametrize("shape", [(4, 9), (9, 4)])
def test_muon_is_torchs_in_another_precision(shape):
    ours = torch.nn.Parameter(torch.randn(*shape))
    theirs = torch.nn.Parameter(ours.detach().clone())
    optimizers = (
        Muon([ours], lr=0.1, weight_decay=0.3),
        torch.optim.Muon([theirs], lr=0.1, weight_decay=0.3),
    )
    start = ours.detach().clone()
    for _ in range(5):
        gradient = torch.randn(*shape)
        ours.grad, theirs.grad = gradient, gradient.clone()
        for optimizer in optimizers:
            optimizer.step()
    moved = (theirs - start).norm()
    assert (ours - theirs).norm() < 0.03 * moved  # bfloat16 has three digits
    values = torch.linalg.svdvals(orthogonal(torch.randn(*shape)))
    assert values.min() > 0.3
    assert values.max() < 1.3


@pytest.mark.parametrize("shape", [(8, 5), (5, 40), (3, 6, 6)])
def test_newton_and_schulz_iterate_on_the_small_matrix_what_they_iterate_on_the_whole(shape):
    G = torch.randn(*shape)
    X = G.double() / G.double().norm(dim=(-2, -1), keepdim=True)
    for _ in range(5):
        X = 3.4445 * X - 4.7750 * X @ X.mT @ X + 2.0315 * X @ X.mT @ X @ X.mT @ X
    torch.testing.assert_close(orthogonal(G).double(), X, rtol=0, atol=1e-4)
