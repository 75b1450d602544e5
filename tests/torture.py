"""Runs that are killed, told to stop, and written to full disks, each resumed until it is done.

By hand: python tests/torture.py --kills 50 --stops 20 --full 20
The suite runs a few of each. Every run must end as the uninterrupted one did, bit by bit.
"""

import argparse
import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from safetensors.torch import load

from experiments.runs.checkpoint import WEIGHTS, checkpoints, latest, verified
from experiments.runs.errors import UsageError

COMMON = ["--data", "digits", "--seed", "3", "--checkpoint-every", "0s"]
RUNS = {
    "ppca": ["ppca", "--guide", "amortized", "--epochs", "10", "--batch-size", "100"],
    "vae": ["vae", "--epochs", "8", "--batch-size", "100", "--binarize", "dynamic",
            "--likelihood", "bernoulli", "--kl-anneal", "0.5"],
    "nvae": ["nvae", "--preset", "digits-tiny", "--rows", "400", "--epochs", "3",
             "--batch-size", "50", "--evaluate", "2", "--ema", "0.9", "--readjust", "2"],
}  # fmt: skip
KINDS = {f"{name}{words}": [*args, *COMMON, *words.split()]
         for name, args in RUNS.items() for words in ("", " --compile")}  # fmt: skip


class Outcome(NamedTuple):
    """How a tortured run went: how often it was disturbed, and what was wrong, if anything."""

    kind: str
    disturbed: int
    fault: str | None


def start(args: list[str], out: Path, limit: int | None = None) -> subprocess.Popen:
    """A command as a process, perhaps with a limit on the size of its files [bytes]."""
    words = [*args, "--out", str(out)]
    if out.exists():
        words.append("--resume")

    def limited() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    return subprocess.Popen(
        [sys.executable, "-m", "experiments", *words], stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=limited,
    )  # fmt: skip


def ended(process: subprocess.Popen, seconds: float | None = None) -> str:
    """Wait for a process; what it said on its error stream."""
    return process.communicate(timeout=seconds)[1]


def seconds_of(args: list[str], out: Path) -> tuple[float, float]:
    """Run a command undisturbed; when its first checkpoint was there, and when it was over."""
    began, first = time.monotonic(), 0.0
    process = start(args, out)
    while process.poll() is None:
        if not first and checkpoints(out):
            first = time.monotonic() - began
        time.sleep(0.01)
    words = ended(process)
    assert process.returncode == 0, words
    return first, time.monotonic() - began


def difference(whole: Path, out: Path) -> str | None:
    """What a resumed run has otherwise than the whole one; ``None`` if nothing that matters."""
    weights = [load(verified(latest(run), WEIGHTS)[0]) for run in (whole, out)]
    if any(not weights[0][name].equal(weights[1][name]) for name in weights[0]):
        return "other weights"
    logs = [(run / "metrics.jsonl").read_text().splitlines() for run in (whole, out)]
    if len({repr([json.loads(line) | {"seconds": 0} for line in log]) for log in logs}) > 1:
        return "another log"
    finals = [json.loads((run / "metrics.json").read_text()) for run in (whole, out)]
    if len({repr(final | {"seconds": 0, "memory": 0}) for final in finals}) > 1:
        return "other figures"
    figures = sorted(path.name for path in (whole / "figures").iterdir())
    for path in (Path("per_image.safetensors"), *(Path("figures", name) for name in figures)):
        if (whole / path).read_bytes() != (out / path).read_bytes():
            return f"another {path}"
    return None


def damage(out: Path) -> str | None:
    """Whatever looks like a checkpoint and is none; what was left half-written does not."""
    for path in checkpoints(out):
        try:
            verified(path, WEIGHTS, "state.pt")
        except UsageError as error:
            return str(error)
    return None


def unnoticed(folder: Path, draws: random.Random, flips: int, cuts: int) -> dict[str, list[str]]:
    """Flip bits and cut ends of every file of a checkpoint; what was not refused by its name.

    A change of the manifest is harmless where all files are still read as they were.
    """
    names = ("weights.safetensors", "state.pt")
    right = verified(folder, *names)
    found: dict[str, list[str]] = {}
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        damages = []
        for _ in range(flips):
            damaged = bytearray(whole)
            damaged[draws.randrange(len(whole))] ^= 1 << draws.randrange(8)
            damages.append(bytes(damaged))
        damages += [whole[: draws.randrange(len(whole))] for _ in range(cuts)]
        found[path.name] = []
        for damaged in damages:
            path.write_bytes(damaged)
            try:
                if verified(folder, *names) != right:
                    found[path.name].append("read")
            except UsageError as error:
                if path.name not in str(error):
                    found[path.name].append(str(error))
        path.write_bytes(whole)
    return found


def disturbed(
    kind: str, whole: Path, out: Path, disturb: Callable[[list[str]], bool], most: int = 30
) -> Outcome:
    """Have a run disturbed until it gets through, then look at what it left."""
    for times in itertools.count():
        if times == most or not disturb(KINDS[kind]):
            break
        fault = damage(out)
        if fault:
            return Outcome(kind, times, fault)
    process = start(KINDS[kind], out)
    words = ended(process)
    if process.returncode:
        return Outcome(kind, times, f"code {process.returncode}: {words.strip()}")
    return Outcome(kind, times, difference(whole, out))


def by_signal(
    number: int, out: Path, draws: random.Random, span: tuple[float, float]
) -> Callable[[list[str]], bool]:
    """A disturbance: a signal at a random moment, mostly while the run is training."""

    def disturb(args: list[str]) -> bool:
        process = start(args, out)
        low, high = (0.0, span[1]) if draws.random() < 0.2 else (0.8 * span[0], span[1])
        try:
            words = ended(process, draws.uniform(low, high))
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            words = ended(process)
        if process.returncode == 0:
            return False
        expected = {-number, 128 + number}
        assert process.returncode in expected, (process.returncode, words)
        return True

    return disturb


def by_full_disk(out: Path, draws: random.Random, folder: Path) -> Callable[[list[str]], bool]:
    """A disturbance: a file may only grow so large, somewhere below what a checkpoint needs."""

    def disturb(args: list[str]) -> bool:
        needed = max((path.stat().st_size for path in folder.rglob("*.pt")), default=100_000)
        process = start(args, out, limit=draws.randrange(2000, int(1.2 * needed)))
        words = ended(process)
        if process.returncode == 0:
            return False
        lines = [line for line in words.splitlines() if not line.startswith("warning: ")]
        assert process.returncode in (1, 2), (process.returncode, words)
        assert len(lines) == 1, words
        assert lines[0].startswith("error: "), words
        return True

    return disturb


def tortured(kinds: list[str], kills: int, stops: int, full: int, seed: int) -> Iterator[str]:
    """All runs one after the other; a line for each, and one for every sort of disturbance."""
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    draws, wholes = random.Random(seed), {}
    for kind in dict.fromkeys(kinds):
        whole = folder / f"whole {kind}"
        wholes[kind] = (whole, seconds_of(KINDS[kind], whole))
        yield f"{kind}: {wholes[kind][1][1]:.1f} s undisturbed"
    sorts: dict[str, tuple[int, Callable[..., Callable[[list[str]], bool]]]] = {
        "SIGKILL": (kills, lambda out, whole, span: by_signal(signal.SIGKILL, out, draws, span)),
        "SIGTERM": (stops, lambda out, whole, span: by_signal(signal.SIGTERM, out, draws, span)),
        "full disk": (full, lambda out, whole, span: by_full_disk(out, draws, whole)),
    }
    for sort, (count, make) in sorts.items():
        outcomes = []
        for number, kind in zip(range(count), itertools.cycle(kinds), strict=False):
            whole, span = wholes[kind]
            out = folder / f"{sort} {number}"
            most = draws.randrange(1, 4)
            outcomes.append(disturbed(kind, whole, out, make(out, whole, span), most))
            shutil.rmtree(out)
            yield f"{sort} {number}: {' '.join(map(str, outcomes[-1]))}"
        good = sum(outcome.fault is None for outcome in outcomes)
        times = sum(outcome.disturbed for outcome in outcomes)
        yield f"{sort}: {good} of {count} as the undisturbed run, {times} disturbances"
    for kind, (whole, _) in wholes.items():
        for name, faults in unnoticed(latest(whole), draws, 200, 50).items():
            yield f"{kind}, {name}: {len(faults)} of 250 damages unnoticed {set(faults) or ''}"
    shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="runs to be killed")
    parser.add_argument("--stops", type=int, default=20, help="runs to be told to stop")
    parser.add_argument("--full", type=int, default=20, help="runs on a disk that fills up")
    often = [kind for kind in KINDS if kind != "nvae --compile"]  # it takes minutes every time
    kinds = ",".join([*often, *often, "nvae --compile"])
    parser.add_argument("--kinds", default=kinds, help="which runs, in turn")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    args = parser.parse_args()
    began = time.monotonic()
    for line in tortured(args.kinds.split(","), args.kills, args.stops, args.full, args.seed):
        print(line, flush=True)
    print(f"{(time.monotonic() - began) / 60:.1f} minutes")


if __name__ == "__main__":
    os.environ.setdefault("PYTHONPATH", str(Path(__file__).parents[1]))
    main()
