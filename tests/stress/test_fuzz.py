"""Malformed input ends soon, in one line, and leaves nothing: some of what ``fuzz.py`` runs."""

import sys

import pytest
import torch

from tests.stress.fuzz import Ended, fuzz, wrong
from tests.stress.fuzz_words import Case

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")


@pytest.fixture(autouse=True)
def _default_float32():
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("kind", "count"),
    [("command lines", 70), ("saved runs", 14), ("IDX files", 25), ("images", 16)],
)
def test_malformed(finished_runs, kind, count):
    tally = fuzz(kind, count, 0, finished_runs)
    assert tally.failures == []
    assert tally.ends[2] + tally.ends[1] == count


def test_malformed_as_a_process(finished_runs):
    tally = fuzz("command lines", 1, 1, finished_runs, process=True)
    assert tally.failures == []
    assert tally.refused == 1


@pytest.mark.parametrize(
    ("ended", "after", "reason"),
    [
        (Ended(2, ["error: no."], 0), {"a": "1"}, ""),
        (Ended(2, ["warning: old.", "error: no."], 0), {"a": "1"}, ""),
        (Ended(0, [""], 0), {"a": "1"}, "ended with 0"),
        (Ended("hang", [""], 0), {"a": "1"}, "ended with hang"),
        (Ended(-11, ["error: no."], 0), {"a": "1"}, "ended with -11"),
        (Ended(2, ["no."], 0), {"a": "1"}, "more or less than one line"),
        (Ended(2, ["error: no.", "error: no."], 0), {"a": "1"}, "more or less than one line"),
        (Ended(2, ["error: \x1b[31mno."], 0), {"a": "1"}, "no terminal"),
        (Ended(1, ["error: KeyError: 3 (PPL_DEBUG=1 shows where)"], 0), {"a": "1"}, "foresaw"),
        (Ended(1, ["Traceback (most recent call last):", "error: no."], 0), {"a": "1"}, "foresaw"),
        (Ended(2, ["error: no."], 0), {"a": "2"}, "left a"),
        (Ended(2, ["error: no."], 0), {"a": "1", "new": "directory"}, "left new"),
        (Ended(2, ["error: no."], 0), {}, "left a"),
        (Ended(1, ["error: no."], 0), {"a": "1", "b": "", "b/checkpoint/state.pt": "3"}, ""),
    ],
)
def test_what_counts_as_a_failure(ended, after, reason):
    found = wrong(Case(["ppca"]), ended, {"a": "1"}, after)
    assert (reason in " ".join(found)) if reason else found == []


def test_what_may_pass_says_nothing_on_stderr():
    case = Case(["ppca"], may_pass=True)
    assert wrong(case, Ended(0, ["warning: old."], 0), {}, {"new": "run"}) == []
    assert wrong(case, Ended(0, ["error: no."], 0), {}, {}) == ["said 'error: no.'"]
