"""Short runs of every kind, stopped at a step, and what their directories contain."""

import atexit
import json
import math
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from experiments import nvae, ppca, vae
from experiments.inference.svi import SVI
from experiments.runs.checkpoint import latest
from experiments.runs.cli import cli
from tests.shared.commands import without_times

DIGITS = ["--data", "digits", "--rows", "300", "--batch-size", "100", "--epochs", "3"]
TINY = [*DIGITS, "--batch-size", "100", "--guide.local-steps", "5"]
RUNS = {
    "ppca": (ppca, [*DIGITS, "--guide", "amortized"]),
    "muon": (ppca, [*DIGITS, "--guide", "amortized", "--optimizer", "muon"]),
    "rows": (ppca, [*TINY, "--guide", "mean_field"]),
    "patience": (
        ppca,
        [*DIGITS, "--guide", "amortized", "--patience", "1", "--lr", "1e-12", "--epochs", "6"],
    ),
    "vae": (
        vae,
        [*DIGITS, "--binarize", "dynamic", "--likelihood", "bernoulli", "--kl-anneal", "0.5"],
    ),
    "vae-iwae": (vae, [*DIGITS, "--objective", "iwae", "--seed", "1"]),
    "nvae": (
        nvae,
        [
            "--preset",
            "digits-tiny",
            "--rows",
            "300",
            "--batch-size",
            "100",
            "--epochs",
            "3",
            "--evaluate",
            "2",
            "--ema",
            "0.9",
            "--flip",
            "--readjust",
            "1",
        ],
    ),
}
"""Commands whose training is three epochs of three steps."""


_MADE: dict[tuple[str, ...], Path] = {}


def copied(out: str, module, args: list[str]) -> Path:
    """A finished run in ``out``: made for the first test that asks for it, then copied."""
    key = (module.__name__, *args)
    if key not in _MADE:
        home = tempfile.mkdtemp(prefix="ppl-made-")
        atexit.register(shutil.rmtree, home, ignore_errors=True)
        cli(module.Config, module.main, [*args, "--out", f"{home}/run"])
        _MADE[key] = Path(home, "run")
    shutil.copytree(_MADE[key], out)
    return Path(out)


def stopped(monkeypatch, step: int, module, args: list[str], number=signal.SIGTERM) -> int:
    """Run a command that gets a signal inside its ``step``-th step; its exit code."""
    whole, done = SVI.step, []

    def interrupted(self, batch):
        done.append(whole(self, batch))
        if len(done) == step:
            os.kill(os.getpid(), number)
        return done[-1]

    with monkeypatch.context() as patch:
        patch.setattr(SVI, "step", interrupted)
        with pytest.raises(SystemExit) as end:
            cli(module.Config, module.main, args)
    return end.value.code


def breaks(monkeypatch, when) -> None:
    """Have gradients be no numbers in steps for which ``when(number, svi)`` is true."""
    whole, steps = SVI._attempt, []

    def broken(self, batch):
        steps.append(1)
        loss = whole(self, batch)
        if when(len(steps), self):
            next(p for p in self.parameters if p.grad is not None).grad.fill_(math.nan)
        return loss

    monkeypatch.setattr(SVI, "_attempt", broken)


def contents(out: str) -> dict[str, object]:
    """All that a finished run leaves and that knows no clock."""
    files: dict[str, object] = {
        path.name: path.read_bytes() for path in Path(out, "figures").glob("*.png")
    }
    for path in (latest(Path(out)) / "weights.safetensors", Path(out, "per_image.safetensors")):
        files[path.name] = path.read_bytes()
    lines = Path(out, "metrics.jsonl").read_text().splitlines()
    files["metrics.jsonl"] = [json.loads(line) | {"seconds": 0} for line in lines]
    files["metrics.json"] = without_times(json.loads(Path(out, "metrics.json").read_text()))
    return files
