"""A ± is the error of the number before it."""

import re
from types import SimpleNamespace

import pytest
import torch

from experiments import SVI
from experiments.data import as_data
from experiments.reports.comparison import _picture, _short
from experiments.reports.gap_table import gaps_in_words
from experiments.reports.tables import figures_table
from experiments.reports.words.captions import caption
from experiments.reports.words.comparisons import findings_of_guides, findings_of_runs
from experiments.reports.words.findings import findings
from experiments.runs.metrics import Metrics
from experiments.training import train
from guides import GUIDES
from ppl_models.sites import describe
from tests.experiments.reports.test_report_words import guide_row
from tests.shared.linear_pair import Groups


def test_the_table_has_the_error_of_the_shared_draws_too():
    """The paragraph above the table states hypot(0.5, 2) = 2.1 for the same bound."""
    row = {"split": "test", "iw_bound": -50.0, "iw_bound_se": 0.5, "iw_bound_draws_se": 2.0}
    table = figures_table([row | {"iw_particles": 100}], "image")
    (shown,) = table.rows
    assert "± 2.1" in shown["IW bound"]


def test_nor_has_it_an_error_without_that_of_the_draws():
    """Of fewer than ten shared draws it is unknown, and the paragraph states none."""
    figures = {"iw_bound": -50.0, "iw_bound_se": 0.5, "iw_bound_draws_se": None}
    metrics = Metrics("vae", "prior", "array", None, test=figures | {"log_evidence": None})
    (row,) = metrics.measured
    assert "log_evidence" not in row
    (shown,) = figures_table(metrics.measured, "image").rows
    assert "±" not in shown["IW bound"]


def test_the_error_of_a_whole_data_set_is_not_called_one_over_data(monkeypatch):
    """whole_bound's error is that of draws of q: there is one number for all data."""
    data = as_data(torch.randn(12, 1), given={"group": torch.arange(12) % 3})
    model = Groups()
    describe(model, data)
    guide = GUIDES["auto_normal"](model)
    svi = SVI(model, guide, lambda parameters: torch.optim.Adam(parameters, 0.01))
    quiet = lambda *_: None  # noqa: E731
    run = SimpleNamespace(
        config=SimpleNamespace(seed=0, memory=1.0), say=quiet, save_metrics=quiet, losses=[]
    )
    monkeypatch.setattr(train, "finish", lambda *args: args[-1])
    metrics = Metrics("mine:Groups", "auto_normal", "array", None, "elbo")
    tables = train.conclude_whole(run, svi, data.like(model), metrics)
    assert "over data points" not in tables["Figures"].words


def row(guide, **figures):
    empty = dict.fromkeys(
        ("family", "gap", "gap_se", "exact_gap", "oracle_gap", "evidence", "minus_best")
    )
    known = {"decoder": "frozen", "seed": 0, "bound": "elbo", "value": 1.0, "value_se": 0.1}
    return empty | known | {"guide": guide, "minus_best_se": None} | figures


def test_a_caption_does_not_claim_a_log_evidence_that_is_unknown():
    """compare --of a VAE: the axis says best ELBO - bound, the caption log p(x) - bound."""
    drawn = {}
    run = SimpleNamespace(figure=drawn.__setitem__)
    table = [
        row("a", minus_best=0.0, minus_best_se=0.0),
        row("b", minus_best=-0.5, minus_best_se=0.02),
    ]
    _picture(run, "frozen", table)
    ((name, figure),) = drawn.items()
    assert figure.axes[0].get_xlabel().startswith("best ELBO - bound")
    assert "log p(x) - bound" not in caption(name)


def test_squared_errors_of_a_column_have_the_same_decimals_unless_they_are_small():
    values = (22.41, 9.87, 3.2e-5, None)
    known = {"minus_best": 0.0, "minus_best_se": 0.0, "seconds_per_epoch": None}
    table = [row(str(value), squared_error=value, **known) for value in values]
    shown = [line["sq. error"] for line in _short(table)]
    assert shown == ["22.410", "9.870", "3.2e-05", "–"]


def test_a_sampled_loss_is_stated_with_its_error():
    """A flow's gap has no closed form: 0.03 ± 0.05 is not "loses 0.03 nats"."""
    flow = row("flow", gap=0.03, gap_se=0.05, evidence=10.0)
    (words,) = findings_of_guides([flow])
    assert re.search(r"flow loses 0\.03\d* ± 0\.05", words)


def test_a_gap_that_stays_is_no_sign_of_training_that_has_not_converged():
    """With one latent every Gaussian is diagonal, and all that is left is noise."""
    diagonal = {"family": "diagonal", "oracle_gap": 0.0}
    for then, now in ((1e-5, 3e-5), (0.0149, 0.0095)):  # the second is 0.01 twice
        frozen = [guide_row("mean_field", "frozen", then, **diagonal)]
        learned = [guide_row("mean_field", "learned", now, **diagonal)]
        words = findings_of_guides(frozen + learned)[1]
        assert words == "When p is learned with the guide, the guide shapes p."
    frozen = [guide_row("mean_field", "frozen", -1e-6, **diagonal)]
    learned = [guide_row("mean_field", "learned", 0.02, **diagonal)]
    assert "rises from 0.00 to 0.02 nats" in findings_of_guides(frozen + learned)[1]
    points = [row(name, bound="log_joint") for name in ("point", "mine:Point")]
    (words,) = findings_of_guides([row("exact", exact_gap=0.0, evidence=10.0), *points])
    assert "point and mine:Point have a log joint" in words


def test_what_is_above_zero_is_not_said_to_be_zero():
    figures = {"elbo": 16.8, "elbo_se": 0.7, "log_evidence": 16.803, "rate": 0.01}
    protocol = {"split": "test", "shape": [1, 8, 8], "estimator": "monte_carlo"}
    (words,) = findings({"protocol": protocol, "test": figures})
    assert "the guide loses less than 0.01 nats" in words
    assert "carry less than 0.1 nats" in words
    gap = {"gap": "total", "nats": -1e-6, "from": -2e-6, "to": -1e-7}
    words, (warning,) = gaps_in_words([gap], "iw_bound", 0.0002)
    assert "loses 0.00 nats (95% interval 0.00 to 0.00)" in words
    assert "negative" not in words
    assert "for less than 0.1% of the images" in warning
    gap |= {"nats": -0.008, "from": -0.012, "to": -0.004}
    words, _ = gaps_in_words([gap], "iw_bound", 0.0002)
    assert "loses -0.01 nats (95% interval -0.01 to 0.00)" in words
    assert "A negative part means" in words


@pytest.mark.parametrize(
    ("of_draws", "shown"), [(2.0, "-50.0 ± 2.1 nats"), (None, "-50.000 nats")]
)
def test_the_best_of_saved_runs_has_the_error_of_its_shared_draws_too(of_draws, shown):
    """compare --runs of two runs of nonlinear: the table states both parts."""
    figures = {"iw_bound": -50.0, "iw_bound_se": 0.5, "iw_bound_draws_se": of_draws}
    column = ("iw_bound", "IW bound, 2000 shared draws")
    runs = [("a", figures | {"squared_error": None}, column)]
    (words,) = findings_of_runs(runs, "image")
    assert f"a has the highest IW bound, 2000 shared draws: {shown} per image" in words
