"""What lies in run directories and beside them: only what a call has made itself is removed."""

import errno
import json
import os
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch

from experiments import ppca
from experiments.errors import UsageError
from experiments.inference.svi import SVI
from experiments.runs import checkpoint, environment, files
from experiments.runs.checkpoint import checkpoints, latest, save_checkpoint
from experiments.runs.cli import cli
from experiments.runs.directory import RunDirectory, set_aside, writable
from experiments.runs.lock import LOCK, Lock
from experiments.runs.resuming import is_finished
from experiments.tools import refit
from tests.shared.commands import failed, refused, run
from tests.shared.runs import RUNS, contents, copied, stopped

ARGS = [*RUNS["ppca"][1], "--checkpoint-every", "1"]


pytestmark = pytest.mark.usefixtures("in_a_folder", "without_pictures")


def put(*names: str) -> None:
    """Files of a user's own."""
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("mine")


def names_in(folder: str) -> set[str]:
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*")}


def at_step(monkeypatch, number: int, act) -> None:
    """Have something happen inside a run's step of that number."""
    step, done = SVI.step, []

    def acting(self, batch):
        done.append(1)
        if len(done) == number:
            act()
        return step(self, batch)

    monkeypatch.setattr(SVI, "step", acting)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("out", ["new/sub", "old"])
def test_a_directory_that_cannot_be_written_keeps_what_it_holds(number, out, monkeypatch):
    put("old/seed=0/metrics.json", "old/.writable/x", "old/.hidden")
    before = names_in(".")

    def fails(*args, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "mkstemp", fails)
    with pytest.raises(UsageError, match="cannot be written"):
        writable(Path(out))
    assert names_in(".") == before


def test_what_others_put_into_a_new_directory_stays_when_the_run_fails(capsys, monkeypatch):
    Path("empty").mkdir()
    at_step(monkeypatch, 1, lambda: put("empty/notes.txt", "new/figures/photo.png"))
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_synced", lambda *_: (_ for _ in ()).throw(KeyError(1)))
        for out in ("empty", "new"):
            put(f"{out}-beside")
            with pytest.raises(SystemExit):
                cli(ppca.Config, ppca.main, [*ARGS, "--out", out])
    assert names_in(".") == {"empty", "empty-beside", "new-beside"}
    with pytest.raises(SystemExit):
        cli(
            ppca.Config,
            ppca.main,
            [*ARGS, "--lr", "1e30", "--max-rollbacks", "0", "--out", "empty"],
        )
    assert Path("empty/notes.txt").read_text() == "mine"


def test_a_file_that_another_process_has_replaced_is_not_removed():
    place = RunDirectory("ppca", Path("a"))
    for name in ("config.json", "figures.json"):
        files.write_text(place.path / name, "ours")
    Path("theirs").write_text("theirs")
    os.replace("theirs", "a/config.json")
    place.empty(begun=False)
    place.remove()
    assert names_in("a") == {"config.json"}


def test_checkpoints_are_numbered_without_end():
    put(*(f"run/checkpoint/{name}/manifest.json" for name in ("00009", "99999", "100000")))
    put(
        "run/checkpoint/123456",
        "run/checkpoint/1e5/x",
        "run/checkpoint/٣٣٣٣٣/x",
        "run/checkpoint/00001/thesis.tex",
    )
    directory = Path("run")
    assert [path.name for path in checkpoints(directory)][1:] == ["00009", "99999", "100000"]
    save_checkpoint(directory, {"a": b"1"}, keep=3)
    assert latest(directory).name == "123457"
    found = [path.name for path in checkpoints(directory)]
    assert found == ["00001", "99999", "100000", "123457"]  # 00001 is no checkpoint: it stays
    save_checkpoint(directory, {"a": b"1"}, keep=1)
    assert [path.name for path in checkpoints(directory)] == ["00001", "123458"]
    assert Path("run/checkpoint/00001/thesis.tex").exists()


@pytest.mark.parametrize("linked", [False, True])
def test_what_is_hidden_beside_checkpoints_stays(linked, monkeypatch):
    stopped(monkeypatch, 4, ppca, [*ARGS, "--out", "a"])
    if linked:
        shutil.move("a/checkpoint", "disk")
        Path("a/checkpoint").symlink_to(Path("disk").absolute())
    kept = ("a/checkpoint/.ssh/id", "a/checkpoint/.snapshots/x", "a/checkpoint/.old-1/x", "a/.x")
    put(*kept, "private/key", "a/.ppl-tmp-left/x", "a/checkpoint/.ppl-tmp-left/x")
    Path("a/figures").mkdir()
    Path("a/figures/.ppl-tmp-link").symlink_to(Path("private").absolute())
    run(ppca, *ARGS, "--out", "a", "--resume")
    assert all(Path(name).read_text() == "mine" for name in (*kept, "private/key"))
    left = [name for name in names_in("a") | names_in("a/checkpoint") if ".ppl-tmp-" in name]
    assert bool(left) == linked  # another's, perhaps, where the folder is elsewhere
    copied("whole", ppca, ARGS)
    assert contents("a") == contents("whole")


@pytest.mark.parametrize(
    ("content", "fits"),
    [
        ("", True),
        ("\0" * 9, True),
        ("1 {host}\n", True),
        ("export A=1\n", False),
        ("12 {host}", False),
        ("\udcff 1\n", False),
    ],
)
def test_a_lock_file_is_overwritten_only_if_it_is_one(content, fits):
    text = content.format(host=os.uname().nodename).encode(errors="surrogateescape")
    Path(LOCK).write_bytes(text)
    if fits:
        with Lock(Path()):
            assert Path(LOCK).read_text().startswith(f"{os.getpid()} ")
        assert not Path(LOCK).exists()
    else:
        with pytest.raises(UsageError, match="not the lock of a run"):
            Lock(Path())
        assert Path(LOCK).read_bytes() == text


def test_a_forked_process_that_ends_leaves_its_parents_lock(tmp_path):
    with Lock(tmp_path) as lock:
        child = os.fork()
        if child == 0:
            lock.__exit__()
            os._exit(0)
        os.waitpid(child, 0)
        assert lock.directory() == tmp_path
    assert not (tmp_path / LOCK).exists()


@pytest.mark.parametrize("kind", ["link", "dangling", "hard link", "folder", "fifo", "device"])
def test_a_lock_is_a_file_of_its_own(kind):
    put("victim")
    if kind == "device":
        Path(LOCK).symlink_to("/dev/null")
    elif kind == "folder":
        Path(LOCK).mkdir()
    elif kind == "fifo":
        os.mkfifo(LOCK)
    elif kind == "hard link":
        os.link("victim", LOCK)
    else:
        Path(LOCK).symlink_to("victim" if kind == "link" else "nowhere")
    with pytest.raises(UsageError, match=r"run\.lock"):
        Lock(Path())
    assert Path("victim").read_text() == "mine"
    assert not Path("nowhere").exists()
    assert os.path.lexists(LOCK)


def test_a_run_that_is_renamed_goes_on_where_it_is(monkeypatch, capsys):
    copied("whole", ppca, ARGS)
    with monkeypatch.context() as patch:
        at_step(patch, 5, lambda: Path("a").rename("moved"))
        cli(ppca.Config, ppca.main, [*ARGS, "--out", "a"])
    assert "warning: a was moved; the run continues in " in capsys.readouterr().out
    assert not Path("a").exists()
    assert contents("moved") == contents("whole")
    assert not Path("moved", LOCK).exists()


def test_a_run_that_is_renamed_leaves_its_successor_alone(monkeypatch):
    def replaced():
        Path("a").rename("moved")
        put("a/config.json", "a/metrics.jsonl", f"a/{LOCK}", "a/checkpoint/00001/manifest.json")

    at_step(monkeypatch, 5, replaced)
    cli(ppca.Config, ppca.main, [*ARGS, "--out", "a"])
    assert is_finished(Path("moved"))
    assert {path.read_text() for path in Path("a").rglob("*") if path.is_file()} == {"mine"}


@pytest.mark.parametrize("step", [1, 5])
def test_a_run_whose_directory_is_gone_stops_and_says_so(step, monkeypatch, capsys):
    at_step(monkeypatch, step, lambda: shutil.rmtree("a"))
    failed(capsys, [*ARGS, "--out", "a"], "a was deleted, moved or unlocked")
    assert names_in(".") == set()


def test_a_run_whose_lock_another_process_has_taken_writes_nothing_more(monkeypatch, capsys):
    def taken():
        Path("a", LOCK).unlink()
        Path("a", LOCK).write_text("12 another.host\n")
        before.update({path: path.stat().st_mtime_ns for path in Path("a").rglob("*.*")})

    before: dict[Path, int] = {}
    at_step(monkeypatch, 5, taken)
    failed(capsys, [*ARGS, "--out", "a"], "unlocked by another process")
    assert {path: path.stat().st_mtime_ns for path in Path("a").rglob("*.*")} == before


@pytest.mark.parametrize("epochs", [(1,), (2,), (1, 2)])
def test_an_epoch_without_a_finite_step_is_reported(epochs, monkeypatch):
    gradients, done = SVI.eager, []

    def broken(self, batch):
        done.append(1)
        loss = gradients(self, batch)
        return loss * float("nan") if (len(done) + 2) // 3 in epochs else loss

    args = [*ARGS, "--epochs", "4", "--max-skipped", "50", "--out", "a"]
    monkeypatch.setattr(SVI, "eager", broken)
    run(ppca, *args)
    lines = [json.loads(line) for line in Path("a/metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if line["loss"] is None] == [*epochs]
    run(ppca, *args, "--resume", "--epochs", "5")


def test_a_run_killed_before_its_report_gets_one(monkeypatch, capsys):
    args = [*ARGS, "--out", "a"]

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("experiments.reports.page.page_of", killed)
        with pytest.raises(SystemExit):
            cli(ppca.Config, ppca.main, args)
    assert Path("a/metrics.json").exists()
    assert not is_finished(Path("a"))
    run(ppca, *args, "--resume")
    assert is_finished(Path("a"))


def test_a_log_without_checkpoints_is_not_begun_anew(capsys):
    copied("a", ppca, ARGS)
    shutil.rmtree("a/checkpoint")
    again = [*ARGS, "--out", "a", "--resume", "--epochs", "4"]
    refused(capsys, ppca, again, "a has no checkpoint to continue from")


@pytest.mark.parametrize("name", ["metrics.jsonl", "metrics.json", "report.html", "tensorboard"])
def test_a_run_is_not_continued_over_what_no_run_has_written(name, capsys):
    """A folder in the place of a file, with files of the user's; a link in that of a folder."""
    copied("a", ppca, ARGS)
    where = Path("a", name)
    shutil.rmtree(where) if where.is_dir() else where.unlink()
    if name == "tensorboard":
        put("elsewhere/notes.txt")
        where.symlink_to(Path("elsewhere").absolute())
    else:
        put(f"a/{name}/notes.txt")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    refused(
        capsys,
        ppca,
        [*ARGS, "--epochs", "9", "--resume", "--out", "a"],
        f"a/{name} is not the",
    )
    assert before == {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def test_what_a_run_was_continued_on_is_kept(monkeypatch, capsys):
    args, threads = [*ARGS, "--out", "a"], torch.get_num_threads
    for step, number in ((4, 1), (2, 3), (1, 3)):
        monkeypatch.setattr(torch, "get_num_threads", lambda number=number: number)
        resume = ["--resume"] if Path("a").exists() else []
        stopped(monkeypatch, step, ppca, [*args, *resume])
    monkeypatch.setattr(torch, "get_num_threads", threads)
    said = capsys.readouterr().out
    assert said.count("threads 1, now 3") == 1
    assert "may differ in their last bits" in said
    content = json.loads(Path("a/config.json").read_text())
    content["versions"]["torch"] = "1.0"
    Path("a/config.json").write_text(json.dumps(content))
    run(ppca, *args, "--resume")
    content = json.loads(Path("a/config.json").read_text())
    assert [part["threads"] for part in content["history"]] == [1, 3]
    assert [part["epochs"] for part in content["history"]] == [1, 2]
    assert content["history"][1]["versions"]["torch"] == "1.0"
    assert content["threads"] == threads()
    content["history"] = 3
    Path("a/config.json").write_text(json.dumps(content))
    refused(capsys, ppca, [*args, "--resume", "--epochs", "4"], "config.json cannot be read")


def test_a_checkpoint_is_written_where_the_package_is_not_installed(monkeypatch):
    """As from a copy of the source on Python's path."""

    def missing(package):
        raise PackageNotFoundError(package)

    monkeypatch.setattr(environment, "version", missing)
    save_checkpoint(Path(), {"a": b"1"})
    kept = latest(Path())
    assert json.loads((kept / "manifest.json").read_text())["version"] is None
    assert environment.versions()["ppl-models"] is None
    assert checkpoint.verified(kept, "a") == [b"1"]


def test_a_refitted_run_is_continued_with_the_options_that_were_asked_for(monkeypatch):
    run(ppca, *ARGS, "--objective", "elbo", "--out", "first")
    args = ["first", "--guide", "mean_field", "--guide.local-steps", "3", "--out", "a"]
    cli(refit.Config, refit.main, args)
    Path("a/report.html").unlink()
    cli(refit.Config, refit.main, [*args, "--resume"])
    assert is_finished(Path("a"))


def test_what_a_killed_command_left_is_set_aside():
    put("a/config.json")
    with Lock(Path("a")), pytest.raises(UsageError, match="being written by process"):
        set_aside(Path("a"))
    for _ in range(2):
        set_aside(Path("a"))
        put("a/config.json")
    assert names_in(".") >= {"a.unfinished-1/config.json", "a.unfinished-2/config.json"}
    assert f"a.unfinished-1/{LOCK}" not in names_in(".")
