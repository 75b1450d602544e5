"""A point has a log joint; it has no ELBO, gap, k-hat or annealed bound."""

from types import SimpleNamespace

import pytest
import torch

from experiments import SVI
from experiments.data import as_data
from experiments.evaluation.ais import annealed_bound
from experiments.evaluation.comparison import Entry, Row
from experiments.evaluation.gaps import local_elbo
from experiments.evaluation.khat import weights_of_draws
from guides import GUIDES
from ppl_models import PPCA, Batch
from tests.shared.linear_pair import Linear, N, ToPoint, X


def at_the_mode(rows=5):
    model = PPCA(6, 2)
    with torch.no_grad():
        model.W.mul_(10)
        x = model(Batch.draw(rows))
    model.requires_grad_(False)
    guide = GUIDES["point"](model, size=rows).eval()
    guide.tables["z"].rows.data = model.posterior(x).mean
    return model, guide, x


def test_importance_weights_of_a_point_are_refused():
    model, guide, x = at_the_mode()
    with pytest.raises(ValueError, match=r"an importance weight needs .* Point gives points"):
        weights_of_draws(model, guide, as_data(x), 30)
    with pytest.raises(ValueError, match=r"an importance weight needs .* Point gives points"):
        local_elbo(model, guide, as_data(x))


def test_annealing_from_a_point_is_no_bound():
    """AIS from a Delta never moves: it gives log p(x, z) at the point, above log p(x) here."""
    model, guide, x = at_the_mode()
    with pytest.raises(ValueError, match=r"annealed importance sampling needs .* gives points"):
        annealed_bound(model, guide, Batch.of(x), chains=2, steps=5, leapfrog=2)
    start = {"chains": 2, "steps": 5, "leapfrog": 2, "start": "prior"}
    assert annealed_bound(model, guide, Batch.of(x), **start).bound.isfinite().all()


class SaysSo(ToPoint):
    """A guide of points that says so."""

    objective = "log_joint"


def test_compare_calls_no_log_joint_an_elbo():
    model, guide = Linear(), SaysSo()
    config = SimpleNamespace(epochs=1, batch_size=N, particles=1, memory=1.0)
    optim = torch.optim.Adam([*model.parameters(), *guide.parameters()])
    data = as_data(X).like(model)
    entry = Entry("mine:SaysSo", "mine:SaysSo", {})
    row = Row.measured(entry, "learned", 0, SVI(model, guide, optim), data, config)
    assert row.kind == "log_joint"
