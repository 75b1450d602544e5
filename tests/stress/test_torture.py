"""A few of the runs that tests/stress/torture.py disturbs by the dozen."""

import random
import signal

import pytest

from tests.stress.torture import KINDS, by_full_disk, by_signal, disturbed, whole_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return whole_run(KINDS["ppca"], tmp_path_factory.mktemp("torture") / "whole")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_or_told_to_stop(whole, number, tmp_path):
    disturb = by_signal(number, tmp_path / "a", random.Random(number), whole)
    outcome = disturbed("ppca", whole, tmp_path / "a", disturb, most=2)
    assert outcome.fault is None


def test_on_a_disk_that_fills_up(whole, tmp_path):
    disturb = by_full_disk(tmp_path / "a", random.Random(0), whole)
    outcome = disturbed("ppca", whole, tmp_path / "a", disturb, most=2)
    assert outcome.fault is None
    assert outcome.disturbed > 0
