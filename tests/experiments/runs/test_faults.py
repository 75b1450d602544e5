"""Disks that fill up, memory that ends, files that change: what was kept stays good."""

import errno
import json
import os
import random
import shutil
import socket
from pathlib import Path

import pytest
import torch

from experiments import ppca
from experiments.errors import UsageError
from experiments.inference.svi import SVI
from experiments.runs import checkpoint
from experiments.runs.checkpoint import MANIFEST, checkpoints, latest, manifest
from experiments.runs.lock import LOCK, Lock
from experiments.tools import evaluate
from tests.shared.commands import failed, refused, run
from tests.shared.runs import RUNS, contents, copied, stopped
from tests.stress.torture import unnoticed

ARGS = [*RUNS["ppca"][1], "--checkpoint-every", "1"]


pytestmark = pytest.mark.usefixtures("in_a_folder", "without_pictures")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_disk_that_takes_no_more(number, monkeypatch, capsys):
    copied("whole", ppca, ARGS)
    write, done = checkpoint.write_synced, []

    def full(path: Path, content: bytes) -> None:
        done.append(path)
        if len(done) > 7:
            path.write_bytes(content[:100])
            raise OSError(number, os.strerror(number), str(path))
        write(path, content)

    words = "no space is left" if number in (errno.ENOSPC, errno.EDQUOT) else os.strerror(number)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_synced", full)
        failed(capsys, [*ARGS, "--out", "a"], words)
    assert [path.name for path in Path("a/checkpoint").iterdir()] == ["00001", "00002"]
    run(ppca, *ARGS, "--out", "a", "--resume")
    assert contents("a") == contents("whole")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
    ],
)
def test_memory_that_ends(error, monkeypatch, capsys):
    copied("whole", ppca, ARGS)
    step, done = SVI.step, []

    def ends(self, batch):
        done.append(1)
        if len(done) == 5:
            raise error
        return step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(SVI, "step", ends)
        failed(capsys, [*ARGS, "--out", "a"], "out of memory")
    run(ppca, *ARGS, "--out", "a", "--resume")
    assert contents("a") == contents("whole")


def test_data_that_are_gone_or_others(monkeypatch, capsys):
    from experiments.data import Data

    stopped(monkeypatch, 4, ppca, [*ARGS, "--out", "a"])
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(Data, "sha256", "another")
        refused(
            capsys,
            ppca,
            [*ARGS, "--out", "a", "--resume"],
            "the train data and the test data have changed",
        )

    def vanished(*args, **kwargs):
        raise UsageError("no digits")

    with monkeypatch.context() as patch:
        patch.setattr("experiments.training.data.load_as", vanished)
        failed(capsys, [*ARGS, "--out", "a", "--resume"], "data are gone: no digits")
    run(ppca, *ARGS, "--out", "a", "--resume")


def test_one_process_at_a_time(monkeypatch, capsys):
    stopped(monkeypatch, 4, ppca, [*ARGS, "--out", "a"])
    capsys.readouterr()
    words = f"a is being written by process {os.getpid()} on {socket.gethostname()}"
    with Lock(Path("a")):
        refused(capsys, ppca, [*ARGS, "--out", "a", "--resume"], words)
    assert not Path("a", LOCK).exists()
    run(ppca, *ARGS, "--out", "a", "--resume")


def test_a_lock_left_over_is_taken_and_one_from_elsewhere_is_not():
    Path(LOCK).write_text(f"1 {socket.gethostname()}\n")
    with Lock(Path()):
        assert Path(LOCK).read_text() == f"{os.getpid()} {socket.gethostname()}\n"
    Path(LOCK).write_text("12 another.host\n")
    with pytest.raises(UsageError, match=r"process 12 on another.host; if it is gone, remove"):
        Lock(Path())
    assert Path(LOCK).read_text() == "12 another.host\n"


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory) -> Path:
    torch.set_default_dtype(torch.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("stopped"))
        stopped(patch, 4, ppca, [*ARGS, "--out", "half"])
        return Path("half").absolute()


@pytest.fixture
def half(stopped_once) -> Path:
    """A run that was stopped, with two checkpoints."""
    return Path(shutil.copytree(stopped_once, "half"))


def test_no_changed_byte_goes_unnoticed(half):
    found = unnoticed(latest(half), random.Random(0), flips=40, cuts=10)
    assert found == {"weights.safetensors": [], "state.pt": [], MANIFEST: []}


def test_the_checkpoint_before_a_damaged_one_is_taken(half, capsys):
    copied("whole", ppca, ARGS)
    capsys.readouterr()
    state = latest(half) / "state.pt"
    state.write_bytes(state.read_bytes()[:-1])
    run(ppca, *ARGS, "--out", "half", "--resume")
    printed = capsys.readouterr().out
    assert f"warning: {state} is damaged: " in printed
    assert "The previous checkpoint is used." in printed
    assert contents("half") == contents("whole")


def test_where_all_are_damaged_none_is_read(half, capsys):
    for path in checkpoints(half):
        (path / "weights.safetensors").unlink()
    refused(capsys, ppca, [*ARGS, "--out", "half", "--resume"], "weights.safetensors cannot be")
    refused(capsys, evaluate, ["half", "--out", "e"], "weights.safetensors cannot be read")


class Bomb:
    """Writes a file when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize("name", ["weights.safetensors", "state.pt", MANIFEST, "config.json"])
def test_nothing_in_a_file_is_executed(name, half, capsys):
    import pickle

    folder = latest(half)
    files = {file: (folder / file).read_bytes() for file in ("weights.safetensors", "state.pt")}
    bomb = pickle.dumps(Bomb())
    if name in files:  # with a manifest that knows it
        files[name] = bomb
        (folder / MANIFEST).write_bytes(manifest(files))
    ((half if name == "config.json" else folder) / name).write_bytes(bomb)
    for path in checkpoints(half)[:-1]:
        shutil.rmtree(path)
    refused(capsys, ppca, [*ARGS, "--out", "half", "--resume"], name)
    assert not Path("exploded").exists()


def test_readjusted_batch_norms_that_changed_are_computed_anew(tmp_path):
    from safetensors.torch import save_file

    from experiments.training.nvae.batch_norms import _checksum, _kept

    path, values, wanted = tmp_path / "b", {"a": torch.ones(3)}, {"weights": "w"}
    save_file(values, path, metadata=wanted | {"checksum": _checksum(values)})
    assert torch.equal(_kept(path, wanted)["a"], values["a"])
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert _kept(path, wanted) is None


def test_the_log_is_that_of_the_checkpoint(half):
    with Path("half/metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "loss"')
    run(ppca, *ARGS, "--out", "half", "--resume")
    lines = Path("half/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]
