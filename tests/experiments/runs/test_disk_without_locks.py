"""Disks that have no locks."""

import errno
import os

import pytest

from experiments.errors import UsageError
from experiments.runs.lock import Lock

pytestmark = pytest.mark.usefixtures("in_a_folder")


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_without_locks_is_not_another_process(number, monkeypatch, tmp_path):
    """Lustre without flock, and some network mounts."""

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("experiments.runs.lock.fcntl.flock", refuse)
    out = tmp_path / "run"
    out.mkdir()
    with pytest.raises(UsageError, match="cannot be locked"), Lock(out):
        pass
    assert not list(out.iterdir()), "a lock was left behind"
