"""A command under torchrun: one run, one voice, and a run that goes on with other processes."""

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed import TCPStore
from torch.optim.optimizer import register_optimizer_step_post_hook

from experiments import vae
from experiments.errors import UsageError
from experiments.inference.svi import SVI
from experiments.runs.checkpoint import latest
from experiments.runs.cli import cli
from experiments.runs.processes import started
from ppl_models import Batch
from tests.shared.commands import refused
from tests.shared.forked import Child, Ended, start

ROOT = Path(__file__).parents[3]
VAE = [
    "--data",
    "digits",
    "--rows",
    "190",
    "--batch-size",
    "60",
    "--binarize",
    "dynamic",
    "--likelihood",
    "bernoulli",
    "--schedule",
    "constant",
    "--warmup",
    "0",
    "--dtype",
    "float64",
    "--no-compile",
]


pytestmark = pytest.mark.usefixtures("in_a_folder", "without_pictures")


def launched(
    number: int, *words: str, prepare: Callable[[], object] = lambda: None
) -> list[Ended]:
    """Run a command in several processes as torchrun does; each calls ``prepare`` first."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    variables = {
        "MASTER_PORT": store.port,
        "MASTER_ADDR": "127.0.0.1",
        "WORLD_SIZE": number,
        "TORCHELASTIC_USE_AGENT_STORE": True,
    }

    def start_rank(rank: int) -> Child:
        def become() -> None:
            ranks = {"RANK": rank, "LOCAL_RANK": rank}
            os.environ.update({k: str(v) for k, v in (variables | ranks).items()})
            torch.set_num_threads(1)
            prepare()

        return start(list(words), Path.cwd(), Path(tempfile.mkdtemp()), become)

    ranks = [start_rank(rank) for rank in range(number)]
    return [rank.wait() for rank in ranks]


def quiet(ended: list[Ended]) -> str:
    """What the first process said, if all ended well and the others said nothing."""
    (code, said, errors), *others = ended
    assert (code, errors) == (0, ""), errors
    assert others == [(0, "", "")] * len(others)
    return said


def weights(out: str) -> dict[str, torch.Tensor]:
    return load_file(latest(Path(out)) / "weights.safetensors")


def test_as_many_processes_go_on_bit_for_bit_and_others_from_position_and_weights():
    quiet(launched(2, "vae", *VAE, "--epochs", "3", "--out", "whole"))
    said = quiet(launched(2, "vae", *VAE, "--epochs", "1", "--out", "parts"))
    assert said.count("report: ") == 1
    quiet(launched(2, "vae", *VAE, "--epochs", "3", "--out", "parts", "--resume"))
    for name, tensor in weights("whole").items():
        assert torch.equal(weights("parts")[name], tensor)
    assert json.loads(Path("parts/config.json").read_text())["processes"] == 2
    cli(vae.Config, vae.main, [*VAE, "--epochs", "4", "--out", "parts", "--resume"])
    content = json.loads(Path("parts/config.json").read_text())
    assert (content["processes"], content["history"][-1]["processes"]) == (1, 2)
    records = Path("parts/metrics.jsonl").read_text().splitlines()
    assert [json.loads(record)["epoch"] for record in records] == [1, 2, 3, 4]


@pytest.mark.slow
def test_what_goes_wrong_in_one_process_rolls_all_of_them_back():
    eager, steps = SVI.eager, []  # of its own rows: before they meet those of others

    def broken(self: SVI, batch: Batch) -> torch.Tensor:
        steps.append(1)
        loss = eager(self, batch)
        if len(steps) in (6, 7) and os.environ["RANK"] == "1":
            next(p for p in self.parameters if p.grad is not None).grad.fill_(math.nan)
        return loss

    args = [*VAE, "--epochs", "3", "--max-skipped", "2", "--checkpoint-every", "1"]
    said = quiet(
        launched(2, "vae", *args, "--out", "two", prepare=lambda: setattr(SVI, "eager", broken))
    )
    words = "Back to the checkpoint at epoch 1, with 0.5 of the learning rate"
    assert said.count(words) == 1
    records = Path("two/metrics.jsonl").read_text().splitlines()
    assert [json.loads(record)["epoch"] for record in records] == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "out"), [(0, ["--out", "a"]), (1, ["--out", "a"]), (0, [])])
def test_a_process_that_is_killed_ends_the_others(rank, out):
    steps = []

    def die_at_the_sixth(*_: object) -> None:
        steps.append(1)
        if len(steps) == 6 and os.environ["RANK"] == str(rank):
            os.kill(os.getpid(), signal.SIGKILL)

    args = [*VAE, "--epochs", "9", "--checkpoint-every", "1", *out]
    ended = launched(
        2, "vae", *args, prepare=lambda: register_optimizer_step_post_hook(die_at_the_sixth)
    )
    (run,) = [Path("a")] if out else Path("runs").iterdir()
    assert ended[rank].code == -9
    code, _, errors = ended[1 - rank]
    assert (code, errors.count("\n")) == (1, 1), errors
    last = latest(run)
    assert errors == (
        f"error: another process has ended or cannot be reached; {last} is complete: "
        "--resume continues from it.\n"
    )


TOGETHER = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29555"}


@pytest.mark.parametrize(
    ("variable", "values"),
    [
        ("WORLD_SIZE", ["two", "0", "-1", "", "2.0", "\N{SUPERSCRIPT TWO}", "9" * 5000]),
        ("RANK", ["one", "2", "-1", "", None]),
        ("LOCAL_RANK", ["x", "2", "-1"]),
        ("LOCAL_WORLD_SIZE", ["0", "3", "x"]),
        ("MASTER_PORT", ["http", "0", "65536", "-5", "", None]),
        ("MASTER_ADDR", ["", None, "no host", "a" * 300, "."]),
    ],
)
@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_malformed_launch_is_refused_before_anyone_waits(
    variable, values, rank, monkeypatch, capsys
):
    for value in values:
        for name, right in {**TOGETHER, "RANK": rank, variable: value}.items():
            monkeypatch.delenv(name, raising=False)
            if right is not None:
                monkeypatch.setenv(name, right)
        with pytest.raises(UsageError, match=f"^the environment variable {variable} is "):
            started()
    with pytest.raises(SystemExit) as end:
        cli(vae.Config, vae.main, [*VAE, "--out", "a"])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: the environment variable {variable} is ")
    assert error.count("\n") == 1
    assert not list(Path().iterdir())


def test_a_rank_without_a_number_of_processes_is_refused(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    refused(capsys, vae, [*VAE, "--out", "a"], "variable RANK is '1'; it needs WORLD_SIZE")


@pytest.mark.slow
def test_nvae_under_torchrun_for_so_many_minutes():
    args = [
        "--preset",
        "digits-tiny",
        "--rows",
        "100",
        "--batch-size",
        "50",
        "--minutes",
        "0.01",
        "--evaluate",
        "1",
        "--readjust",
        "0",
        "--out",
        "n",
    ]
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "2",
            "-m",
            "experiments.nvae",
            *args,
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.count("report: ") == 1
    assert "iw_bound" in json.loads(Path("n/metrics.json").read_text())["test"]


ALONE = "as one process, not as 2"


def one_line(ended: list[Ended], *words: str) -> None:
    """All processes end with code 2, and one of them says why in one line."""
    assert [code for code, _, _ in ended] == [2] * len(ended)
    lines = "".join(errors for _, _, errors in ended).splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert all(word in lines[0] for word in words), lines


def test_what_several_processes_refuse():
    Path("taken").mkdir()
    Path("taken/file").write_text("mine")
    short = ["--data", "digits", "--epochs", "1"]
    more = [*short, "--rows", "2", "--batch-size", "3", "--out", "a"]
    one_line(launched(3, "vae", *more), "3 processes", "2 rows")
    assert not Path("a").exists()
    one_line(launched(2, "vae", *short, "--out", "taken"), "is not empty")
    assert [path.name for path in Path("taken").iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["evaluate", "run"], ALONE),
        (["compare", "--data", "digits"], ALONE),
        (["nvae", "--list"], ALONE),
        (["nvae", "--pretrained", "mnist-small"], ALONE),
        (
            ["vae", "--batch-size", "15"],
            "--batch-size 15 is the total over all processes: it must be a multiple of 2",
        ),
    ],
)
def test_what_is_refused_before_anything_is_written(words, said):
    one_line(launched(2, *words), said)
    assert not list(Path().iterdir())
