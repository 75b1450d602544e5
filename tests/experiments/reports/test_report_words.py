"""What a report and the demo say is made from the figures, and short."""

import ast
import itertools
import re
from pathlib import Path

import pytest
import torch

from experiments import compare
from experiments.reports import plots
from experiments.reports.tables import MOST_COLUMNS, figures_table, table_of
from experiments.reports.words.captions import CAPTIONS
from experiments.reports.words.comparisons import findings_of_guides, findings_of_runs
from experiments.reports.words.findings import findings, warnings_of_figures, warnings_of_training
from experiments.reports.words.numbers import column, merged, number, squared
from experiments.runs.cli import cli
from tests.experiments.reports.test_report import Tags

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.83154, 0.00334, "0.8315 ± 0.0033"),
        (22.3621, 1.17, "22.4 ± 1.2"),
        (142.23, 1.96, "142.2 ± 2.0"),
        (1234.5, 56.7, "1234 ± 57"),
        (-2.75e-06, 3e-07, "0"),
        (17.65421, 2e-07, "17.654"),
        (17.65421, None, "17.654"),
        (142.2345, None, "142.23"),
        (0.01234, None, "0.0123"),
        (0.0, 0.0, "0"),
        (None, None, "–"),
        (float("nan"), None, "nan"),
    ],
)
def test_a_number_has_as_many_digits_as_mean_something(value, error, text):
    assert number(value, error) == text


def test_figures_of_a_column_have_the_decimals_of_the_largest():
    assert column([17.65421, -4.708, None, 1e-7]) == ["17.654", "-4.708", "–", "0"]
    rows = [{"elbo": 1.0, "elbo_se": 0.01, "none": None}, {"elbo": 2.0, "elbo_se": None}]
    assert merged(rows) == [{"elbo": "1.000 ± 0.010"}, {"elbo": 2.0}]


def test_a_squared_error_in_small_units_is_not_printed_as_zero():
    assert squared(6.26) == number(6.26)
    assert squared(3.2174e-7) == "3.217e-07"
    assert squared(3.2e-7, 4.1e-8) == "3.2e-07 ± 4.1e-08"
    assert squared(3.2174e-7, 4.1e-8) == "3.22e-07 ± 4.1e-08"
    assert squared(0.008312, 0.0012) == number(0.008312, 0.0012) == "0.0083 ± 0.0012"
    assert squared(1e-7, 3e-6) == "1e-07 ± 3e-06"
    assert squared(0.0) == "0"
    rows = [{"a.squared_error": 3.2e-7, "a.squared_error_se": 4.1e-8}]
    assert merged(rows) == [{"a.squared_error": "3.2e-07 ± 4.1e-08"}]
    (words,) = findings(run_metrics(squared_error=3.2e-7, squared_error_se=4.1e-8))
    assert "a squared error of 3.2e-07 ± 4.1e-08" in words
    (row,) = figures_table([{"split": "test", "squared_error": 3.2e-7}], "row").rows
    assert row["squared error"] == "3.2e-07"


def test_no_table_has_more_columns_than_a_reader_takes_in():
    wide = table_of([{f"c{k}": k for k in range(12)}])
    assert len(wide.rows[0]) == MOST_COLUMNS
    assert len(wide.everything[0]) == 12
    names = [
        "elbo",
        "elbo_se",
        "rate",
        "distortion",
        "iw_bound",
        "iw_bound_se",
        "iw_particles",
        "log_evidence",
    ]
    figures = figures_table(
        [{"split": "test", "squared_error": 1.0, **dict.fromkeys(names, 1.0)}], "image"
    )
    assert len(figures.rows[0]) <= MOST_COLUMNS
    assert set(figures.meaning) == set(figures.rows[0])


def test_every_figure_of_a_run_has_a_caption():
    names = set()
    for path in ROOT.glob("experiments/**/*.py"):
        tree = ast.parse(path.read_text())
        words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or ast.unparse(node.func) != "run.figure":
                continue
            name = node.args[0]
            if isinstance(name, ast.Constant):
                names.add(name.value)
            elif isinstance(name, ast.Name):  # a word of the same file
                names |= words & set(CAPTIONS)
            else:  # an f-string with one part, of which every value must have a caption
                start = name.values[0].value
                names |= {k for k in CAPTIONS if k.startswith(start)} or {start}
    assert len(names) > 15
    assert names == set(CAPTIONS)


def guide_row(guide, decoder, loss, **others):
    """A row of a comparison on PPCA with log p(x) = 10."""
    row = {
        "family": None,
        "seed": 0,
        "bound": "elbo",
        "gap_se": 0.01,
        "exact_gap": loss,
        "oracle_gap": 0.8,
    }
    row |= {
        "evidence": 10.0,
        "value": 10.0 - loss,
        "value_se": 0.1,
        "minus_best": None,
        "minus_best_se": None,
    }
    return {"guide": guide, "decoder": decoder, "gap": loss, **row, **others}


def test_the_words_on_guides_are_those_of_the_figures():
    diagonal = {"family": "diagonal"}
    sampled = {"bound": "iw_bound (100)", "exact_gap": None, "gap_se": 1.2}
    point = {"bound": "log_joint", "gap": None, "exact_gap": None}
    frozen = [
        guide_row("exact", "frozen", -1e-6),
        guide_row("full_rank", "frozen", 1e-4),
        guide_row("mean_field", "frozen", 0.81, **diagonal),
        guide_row("amortized", "frozen", 1.0, **diagonal),
        guide_row("prior", "frozen", 22.4, **sampled),
        guide_row("point", "frozen", 0.0, **point),
    ]
    learned = [
        guide_row("exact", "learned", 0.0),
        guide_row("mean_field", "learned", 0.1, evidence=9.8, **diagonal),
    ]
    fixed, free = findings_of_guides(frozen + learned)
    assert fixed == (
        "With p frozen, exact and full_rank lose nothing. mean_field loses 0.81 nats, "
        "about the least that a diagonal Gaussian can lose. amortized loses 1.00 nats: 0.80 "
        "because q is diagonal, 0.20 because its fit is not optimal. prior ignores x: with "
        "100 draws it loses 22.4 ± 1.2 nats. point has a log joint, which is not a bound."
    )
    assert "the gap of mean_field falls from 0.81 to 0.10 nats" in free
    assert free.endswith("Nats of log p(x) below the best: mean_field 0.20.")
    unknown = {"evidence": None, "gap": None, "exact_gap": None, "oracle_gap": None}
    rows = [
        guide_row("a", "learned", 0.0, **{**unknown, "minus_best": 0.0, "minus_best_se": 0.0}),
        guide_row("b", "learned", 0.5, **{**unknown, "minus_best": -0.5, "minus_best_se": 0.02}),
    ]
    (words,) = findings_of_guides(rows)
    assert words == (
        "With p learned with each guide, the best ELBO is that of a, 10.00 ± 0.10 nats; "
        "b is 0.500 ± 0.020 nats lower."
    )


def run_metrics(**figures):
    protocol = {"split": "test", "shape": [1, 8, 8], "estimator": "monte_carlo"}
    protocol["measure"] = "density"
    known = {"elbo": 16.8, "elbo_se": 0.7, "rate": 7.27, "squared_error": 6.26}
    return {"protocol": protocol, "test": known | figures}


def test_the_words_on_a_run_are_those_of_its_figures():
    (words,) = findings(run_metrics())
    assert words.startswith("The ELBO is 16.80 ± 0.70 nats per test image")
    assert "7.3 nats" in words
    assert "overfits" not in words
    (words,) = findings(run_metrics() | {"train": {"elbo": 20.0, "elbo_se": 0.3}})
    assert "3.20 nats higher: the pair overfits" in words
    (words,) = findings(run_metrics(log_evidence=17.8))
    assert "the guide loses 1.00 nats" in words
    figures = {"log_joint": 3.0, "log_joint_se": 0.1, "elbo": None}
    (words,) = findings(run_metrics(**figures))
    assert "not a bound" in words


def test_warnings_say_what_to_do():
    records = [{"skipped": 1, "steps": 5}, {"skipped": 2, "steps": 10}]
    skipped, changed = warnings_of_training(records, "digits: 3 files were added")
    assert skipped.startswith("3 of 10 steps were skipped")
    assert "--lr" in skipped
    assert "3 files" in changed
    assert warnings_of_training([{"skipped": 0, "steps": 5}], None) == []
    few = {"iw_particles": 100, "effective_sample_size_q05": 2.0}
    (words,) = warnings_of_figures(run_metrics(**few))
    assert "2.0 of 100 draws" in words
    assert "--particles" in words
    assert warnings_of_figures(run_metrics(**few | {"effective_sample_size_q05": 30.0})) == []


def test_the_demo_is_short_and_says_nothing_twice(capsys, tmp_path, monkeypatch):
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)
    args = ["--data", "digits", "--rows", "60", "--epochs", "20", "--out", "a"]
    cli(compare.Config, compare.main, args)
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert len(lines) <= 39  # and one of make demo
    assert all(len(line) <= 100 for line in lines)
    said = [line for line in lines if line.strip()]
    assert len(set(said)) == len(said)
    page = Tags(Path("a/report.html").read_text())
    title = "PPCA on digits: the same model under six guides"
    assert page.text.count(title) == 2  # of the browser's tab and of the page
    prose = " ".join(printed.split())
    found = re.search(r"With p frozen, .*(?=When p is learned)", prose)
    assert found
    assert found[0].strip() in page.text
    assert [tag for tag, _ in page.tags].index("p") < [tag for tag, _ in page.tags].index("img")


def test_labels_of_bars_do_not_meet():
    names = ["exact", "amortized:encoder=linear:covariance=full", "mean_field", "prior"]
    figure = plots.bars(
        names, [-3e-6, 1e-4, 0.83, 22.4], "nats", [None, None, 0.003, 1.2], 0.8, "least"
    )
    figure.savefig("/dev/null", format="png")
    (axis,) = figure.axes
    shown = [text for text in (*axis.texts, *axis.get_yticklabels()) if text.get_text()]
    boxes = [text.get_window_extent() for text in shown]
    assert [text.get_text() for text in axis.texts] == [
        "0",
        "0.0001",
        "0.8300 ± 0.0030",
        "22.4 ± 1.2 →",
    ]
    assert not [1 for a, b in itertools.combinations(boxes, 2) if a.overlaps(b)]
    assert all(figure.bbox.contains(*corner) for box in boxes for corner in (box.min, box.max))


@pytest.mark.parametrize("draws", [9, 10, 99])
def test_even_ranks_are_even_bars(draws):
    ranks = torch.arange(draws + 1).repeat(100)[:, None]
    (axis,) = plots.rank_histograms(ranks, draws, ("1",)).axes
    (line,) = axis.lines
    heights = [patch.get_height() for patch in axis.patches]
    assert heights == pytest.approx([line.get_ydata()[0]] * len(heights))


def test_a_ratio_of_zero_has_no_bar_on_a_logarithmic_axis():
    figure = plots.bars(["a", "b"], [0.0, 2.0], "signal to noise", linear=False)
    figure.savefig("/dev/null", format="png")
    (axis,) = figure.axes
    assert [text.get_text() for text in axis.texts] == ["0", "2.0000"]
    assert axis.get_xlim()[0] > 0


def test_runs_without_figures_make_no_empty_paragraph():
    nothing = {"elbo": None, "squared_error": None}
    assert findings_of_runs([("a", nothing, ("elbo", "ELBO"))], "row") == []
    (words,) = findings_of_runs([("a", nothing | {"elbo": -1.0}, ("elbo", "ELBO"))], "row")
    assert words.startswith("a has the highest ELBO")
