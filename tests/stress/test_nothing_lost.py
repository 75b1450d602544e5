"""Nothing that existed before a failed call is changed by it, whatever the fault.

One law over all commands and the faults of ``machine_faults``. By hand, for longer:
PPL_EXAMPLES=2000 python -m pytest -n 0 tests/stress/test_nothing_lost.py
"""

import contextlib
import importlib
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from experiments.errors import UsageError
from experiments.options.commands import COMMANDS as LISTED
from experiments.options.commands import module_of
from experiments.runs.checkpoint import checkpoints, verified
from tests.shared.forked import Child, Ended, forked, snapshot, start
from tests.stress.fuzz import offline
from tests.stress.fuzz_words import BASE, SMALL, STOCK, words_of
from tests.stress.machine_faults import FAULTS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and limits files")

EXAMPLES = int(os.environ.get("PPL_EXAMPLES", "20"))

STOPPED = ["ppca", *SMALL, "--guide", "amortized", "--epochs", "40", "--checkpoint-every", "1"]
SWEPT = [
    "sweep",
    "ppca",
    "--grid",
    "seed=0",
    "--with",
    "data=digits",
    "rows=20",
    "epochs=1",
    "batch_size=20",
    "guide=amortized",
    "--out",
    "sweep",
]
COMMANDS = {
    **{name: words_of(name) for name in BASE if name not in ("sweep", "bayesian-ppca")},
    "reproduce": [*words_of("reproduce"), "--entries", "pca"],
    "labs": ["labs", "--labs", "1", "--no-execute", "--out", "new"],
    "sweep": SWEPT,
    "ppca, unnamed": ["ppca", *BASE["ppca"]],
    "ppca, resumed": [*STOPPED, "--out", "runs/stopped", "--resume"],
    "vae, resumed": [*STOCK["vae"], "--epochs", "2", "--out", "runs/vae", "--resume"],
    "nvae, resumed": [*STOCK["nvae"], "--epochs", "2", "--out", "runs/nvae", "--resume"],
    "compare, saved": ["compare", "--runs", "runs/ppca", "runs/other", "--out", "new"],
    "export-nvae, file": ["export-nvae", "runs/nvae", "--file", "new/sub/weights.safetensors"],
    "explore, file": [*words_of("explore")[:-2], "--out", "new/sub/page.html"],
}
"""Command lines by name; all but those that continue something write to ``new``."""

OF_A_RUN = re.compile(
    r"config\.json|metrics\.jsonl?|per_image\.safetensors|report\.html|run\.lock"
    r"|(checkpoint|figures|tensorboard)(/.*)?|\.ppl-tmp-.*"
)
"""What a run that is continued may replace."""
STRANGERS = (
    "notes.txt",
    ".hidden/x",
    "checkpoint/.ssh/id",
    "checkpoint/.snapshots/x",
    "figures/photo.txt",
)
"""What a user has put into the directories of runs."""


@pytest.fixture(scope="module")
def template(tmp_path_factory, finished_runs) -> Path:
    """A home with runs, one of them stopped in the middle, and a finished sweep."""
    torch.set_default_dtype(torch.float32)
    for name in LISTED:  # once, not in every process
        importlib.import_module(module_of(name))
    home = tmp_path_factory.mktemp("template")
    shutil.copytree(finished_runs, home / "runs")
    shutil.copytree(home / "runs/ppca", home / "sweep/seed=0")
    (home / "sweep/logs").mkdir()
    (home / "sweep/sweep.json").write_text('{"command": "ppca"}')
    with offline():
        assert stop(home, home / "said").code == 143
        ended = forked(SWEPT, home, home / "said")
    assert ended.code == 0, ended.err
    shutil.rmtree(home / "said")
    for directory in (*home.glob("runs/*/"), home / "sweep", home / "sweep/seed=0"):
        for name in STRANGERS:
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_text("mine")
    (home / "private").mkdir()
    (home / "private/key").write_text("secret\n")
    return home


def stop(home: Path, said: Path) -> Ended:
    """Stop a run after a few epochs."""
    child: Child = start([*STOPPED, "--out", "runs/stopped"], home, said)
    while len(checkpoints(home / "runs/stopped")) < 2:
        time.sleep(0.005)
    os.kill(child.process, signal.SIGTERM)
    return child.wait()


def continued(words: list[str]) -> str | None:
    """The run that a command line continues."""
    return words[words.index("--out") + 1] if "--resume" in words else None


def changes(before: dict[str, str], after: dict[str, str], words: list[str]) -> list[str]:
    """What existed and is changed or gone, though it is not the command's to change."""
    run, found = continued(words), []
    for name in before:
        own = run and name.startswith(f"{run}/") and OF_A_RUN.fullmatch(name[len(run) + 1 :])
        stranger = any(name.endswith(f"/{part}") for part in STRANGERS)
        if after.get(name) != before[name] and (stranger or not own):
            found.append(name)
    return found


def whole(run: Path) -> int:
    """How many checkpoints of a run can be gone on from."""
    good = 0
    for path in checkpoints(run):
        with contextlib.suppress(UsageError):
            good += bool(verified(path, "weights.safetensors", "state.pt"))
    return good


def test_every_command_is_tried():
    assert set(LISTED) - {words[0] for words in COMMANDS.values()} == {"bayesian-ppca"}


def violations(template: Path, folder: Path, command: str, fault: str, seed: int) -> list[str]:
    """What a command under a fault does that it must not."""
    home, said, words = folder / "home", folder / "said", [*COMMANDS[command]]
    folder.chmod(0o755)
    shutil.copytree(template, home)
    prepare = FAULTS[fault](home, words, random.Random(seed))
    before, run = snapshot(home), continued(words)
    kept = whole(home / run) if run else 0
    with offline():
        ended = forked(words, home, said, prepare)
    after, found = snapshot(home), []
    if changed := changes(before, after, words):
        found.append(f"changed {changed}")
    if ended.code not in (0, 1, 2, 143, -9, -15):
        found.append(f"ended with {ended.code}")
    if run and kept and not whole(home / run):
        found.append("no checkpoint is whole any more")
    if ended.code == 2 and (left := set(after) - set(before)):
        found.append(f"left {left}")
    for path in (home, *home.rglob("*/")):  # so that they can be removed
        path.chmod(0o755)
    return [*found, str(words), *ended.err.splitlines()[-30:]] if found else []


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="PPL_EXAMPLES" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)
@given(
    command=st.sampled_from(sorted(COMMANDS)),
    fault=st.sampled_from(sorted(FAULTS)),
    seed=st.integers(0, 10**6),
)
def test_nothing_that_existed_before_a_failed_call_is_changed_by_it(
    template, command, fault, seed
):
    with tempfile.TemporaryDirectory() as folder:
        assert violations(template, Path(folder), command, fault, seed) == []
