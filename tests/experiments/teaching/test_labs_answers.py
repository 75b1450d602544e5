"""Hundreds of answers to the labs: wrong ones are named truly, right ones reach the end."""

import collections
import contextlib
import io
import re

import matplotlib.pyplot as plt
import pyro
import pytest
import torch

import experiments
from experiments.teaching import check
from experiments.teaching.notebooks.myst import code_of
from experiments.teaching.notebooks.sources import find_labs
from experiments.teaching.notebooks.versions import read_lab
from tests.experiments.teaching import answers_right, wrong_answers
from tests.experiments.teaching.written_answers import call, written

TASKS = {
    "lab1_pca": {
        "pca": "pca",
        "encode": "pca_encoder",
        "decode": "pca_decoder",
        "squared_error": "squared_error",
    },
    "lab2_ppca": {
        "cost": "ppca_cost",
        "posterior": "posterior",
        "decode": "ppca_decoder",
        "draw_latents": "draw_latents",
    },
    "lab3_vae": {
        "make_decoder": "decoder",
        "log_likelihood": "log_likelihood",
        "monte_carlo_likelihood": "monte_carlo_likelihood",
        "Encoder": "encoder",
        "kl": "kl",
        "reparametrise": "reparametrise",
        "elbo": "elbo",
    },
    "lab4_nvae": {
        "binarise": "binarise",
        "count_parameters": "count_parameters",
        "count_convolutions": "count_convolutions",
    },
}
"""Per lab, the name of what a student writes and of the check that looks at it."""

WITHOUT_ANSWERS = (
    "import Temperature",
    "import resampled_groups",
    "own = PPCA(D, M)",
    "def train_vae",
    "def first_ten",
    "grids_of(wide.decoder",
    "others = {",
)
"""Slow cells, in which nothing that a student wrote is used: they run in test_labs.py."""

LABS = {path.stem: path for path in find_labs()}
VERSIONS = {
    lab: max(len(answers_right.RIGHT[name]) for name in tasks.values())
    for lab, tasks in TASKS.items()
}


pytestmark = pytest.mark.usefixtures("in_a_notebook")


@pytest.mark.parametrize("half", ["first", "second"])
def test_wrong_answers_are_named_truly(half):
    kinds, offenders = collections.Counter(), []
    for of, name, expected, source in wrong_answers.all_answers():
        if of != half:
            continue
        hint = wrong_answers.hint_of(name, source)
        kind = wrong_answers.kind_of(expected, hint)
        kinds[kind] += 1
        if kind in ("false", "missed"):
            offenders.append(f"{kind}: {name}: {source!r} was told {hint!r}")
    assert not offenders
    assert kinds["specific"] >= 0.85 * sum(kinds.values())
    assert sum(kinds.values()) >= 200


def test_right_answers_are_accepted_in_whatever_way_they_are_written(capsys):
    refused = []
    for name, answers in answers_right.RIGHT.items():
        for source in answers:
            try:
                call(name, source)
            except check.Wrong as error:
                refused.append(f"{name}: {source!r}: {error}")
    assert not refused
    accepted = capsys.readouterr().out.count(": right (")
    assert accepted == sum(map(len, answers_right.RIGHT.values())) >= 80


def substituted(lab, version, names):
    """Run a lab's cells with one of the right answers in the place of each solution."""
    for number, code in enumerate(code_of(read_lab(LABS[lab]))):
        if any(words in code for words in WITHOUT_ANSWERS):
            continue
        if "# BEGIN SOLUTION" not in code:
            code = code.replace("particles=20_000", "particles=200")  # for a printed number
            exec(compile(code, f"{lab}, cell {number}", "exec"), names)
            continue
        for name in re.findall(r"^(?:def|class) (\w+)", code, re.MULTILINE):
            check_name = TASKS[lab][name]
            answers = answers_right.RIGHT[check_name]
            source = answers[version % len(answers)]
            names[name] = written(check_name, source, names)


@pytest.mark.parametrize(
    ("lab", "version"), [(lab, i) for lab, count in VERSIONS.items() for i in range(count)]
)
def test_right_answers_carry_to_the_end_of_their_notebook(lab, version, monkeypatch):
    import math

    import numpy
    import torch.nn.functional as F

    # lab 4 trains a tiny NVAE of the project's own; here it stays as it was built
    monkeypatch.setattr(experiments, "fit", lambda *_, **__: iter(()))
    names = {"__name__": "__main__", "math": math, "np": numpy, "F": F}
    names |= {"dist": pyro.distributions, "nn": torch.nn, "torch": torch}
    told = io.StringIO()
    with contextlib.redirect_stdout(told), pyro.get_param_store().scope():
        substituted(lab, version, names)
    plt.close("all")
    assert told.getvalue().count(": right (") >= len(TASKS[lab])


def test_many_layouts_of_networks_are_among_the_right_answers():
    for name in ("encoder", "decoder"):
        layouts = set()
        for source in answers_right.RIGHT[name]:
            names = written_names(name, source)
            layouts.add(tuple(names))
        assert len(layouts) >= 8


def written_names(name, source):
    """The names of the parameters of a network."""
    names = {"torch": torch, "nn": torch.nn, "F": torch.nn.functional}
    return [key for key, _ in written(name, source, names)(64, 2).named_parameters()]
