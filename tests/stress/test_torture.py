"""A few of the runs that tests/stress/torture.py disturbs by the dozen."""

import os
import random
import resource
import signal
import tempfile
from pathlib import Path

import pytest

from tests.shared.forked import Process, as_new
from tests.stress import torture
from tests.stress.torture import KINDS, by_full_disk, by_signal, disturbed, whole_run

pytestmark = pytest.mark.slow


def forked(args: list[str], out: Path, limit: int | None = None) -> Process:
    """``torture.start`` without the imports of a new interpreter."""

    def prepare() -> None:
        as_new()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what it prints has no limit
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    words = [*args, "--out", str(out), *(["--resume"] if out.exists() else [])]
    return Process(words, Path(tempfile.mkdtemp()), prepare)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed run; all of them are forks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torture, "start", forked)
        yield whole_run(KINDS["ppca"], tmp_path_factory.mktemp("torture") / "whole")


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
