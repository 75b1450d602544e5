"""Runs that are killed, told to stop, and written to full disks, each resumed until it is done.

By hand: python tests/stress/torture.py --kills 50 --stops 20 --full 20
The suite runs a few of each. Every run must end as the uninterrupted one did, bit by bit.
"""

import argparse
import contextlib
import itertools
import json
import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from safetensors.torch import load

from experiments.errors import UsageError
from experiments.runs.checkpoint import WEIGHTS, checkpoints, latest, verified

COMMON = ["--data", "digits", "--seed", "3", "--checkpoint-every", "0s"]
RUNS = {
    "ppca": ["ppca", "--guide", "amortized", "--epochs", "10", "--batch-size", "100"],
    "vae": [
        "vae",
        "--epochs",
        "8",
        "--batch-size",
        "100",
        "--binarize",
        "dynamic",
        "--likelihood",
        "bernoulli",
        "--kl-anneal",
        "0.5",
    ],
    "nvae": [
        "nvae",
        "--preset",
        "digits-tiny",
        "--rows",
        "400",
        "--epochs",
        "3",
        "--batch-size",
        "50",
        "--evaluate",
        "2",
        "--ema",
        "0.9",
        "--readjust",
        "2",
    ],
}
KINDS = {
    f"{name}{words}": [*args, *COMMON, words.strip() or "--no-compile"]
    for name, args in RUNS.items()
    for words in ("", " --compile")
}


Disturb = Callable[[list[str]], bool]
"""Starts a command and disturbs it; whether it was before its end."""


class Whole(NamedTuple):
    """An undisturbed run: where, and the moments that disturbances are drawn from.

    Args:
        path: its directory.
        first: seconds until its first checkpoint.
        pace: seconds from one checkpoint to the next, at the median.
        last: number of its last checkpoint.
    """

    path: Path
    first: float
    pace: float
    last: int


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
        [sys.executable, "-m", "experiments", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limited,
    )


def ended(process: subprocess.Popen) -> str:
    """Wait for a process; what it said on its error stream."""
    return process.communicate()[1]


def newest(out: Path) -> int:
    """The number of a run's newest checkpoint; 0 before the first."""
    return max((int(path.name) for path in checkpoints(out)), default=0)


def whole_run(args: list[str], out: Path) -> Whole:
    """Run a command undisturbed, with an eye on its checkpoints."""
    began, times = time.monotonic(), dict[int, float]()
    process = start(args, out)
    while process.poll() is None:
        times.setdefault(newest(out), time.monotonic() - began)
        time.sleep(0.01)
    words = ended(process)
    assert process.returncode == 0, words
    seen = sorted((number, moment) for number, moment in times.items() if number)
    steps = [(later[1] - one[1]) / (later[0] - one[0]) for one, later in itertools.pairwise(seen)]
    return Whole(out, seen[0][1], statistics.median(steps), seen[-1][0])


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


def disturbed(kind: str, whole: Whole, out: Path, disturb: Disturb, most: int = 30) -> Outcome:
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
    return Outcome(kind, times, difference(whole.path, out))


def by_signal(number: int, out: Path, draws: random.Random, whole: Whole) -> Disturb:
    """A disturbance: a signal at a random moment, mostly while the run is training.

    One in five comes while the command starts. The others wait for a checkpoint, drawn from those
    to come, and then up to the time of two: a step, the writing of a checkpoint, or whatever
    follows the last one is under way.
    """

    def disturb(args: list[str]) -> bool:
        process = start(args, out)
        if draws.random() < 0.2:
            wait_for(process, draws.uniform(0, whole.first))
        else:
            target = draws.randint(min(newest(out), whole.last), whole.last)
            while process.poll() is None and newest(out) < target:
                time.sleep(0.002)
            wait_for(process, draws.uniform(0, 2 * whole.pace))
        process.send_signal(number)
        words = ended(process)
        if process.returncode == 0:
            return False
        expected = {-number, 128 + number}
        assert process.returncode in expected, (process.returncode, words)
        return True

    return disturb


def wait_for(process: subprocess.Popen, seconds: float) -> None:
    """Until a process ends, for so long at the most."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def by_full_disk(out: Path, draws: random.Random, whole: Whole) -> Disturb:
    """A disturbance: a file may only grow so large, somewhere below what a checkpoint needs."""

    def disturb(args: list[str]) -> bool:
        needed = max((path.stat().st_size for path in whole.path.rglob("*.pt")), default=100_000)
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


SORTS: dict[str, Callable[[Path, random.Random, Whole], Disturb]] = {
    "SIGKILL": lambda *case: by_signal(signal.SIGKILL, *case),
    "SIGTERM": lambda *case: by_signal(signal.SIGTERM, *case),
    "full disk": by_full_disk,
}


def tortured(kinds: list[str], counts: dict[str, int], seed: int) -> Iterator[str]:
    """All runs one after the other; a line for each, and one for every sort of disturbance."""
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    draws, wholes = random.Random(seed), dict[str, Whole]()
    for kind in dict.fromkeys(kinds):
        began = time.monotonic()
        wholes[kind] = whole_run(KINDS[kind], folder / f"whole {kind}")
        yield f"{kind}: {time.monotonic() - began:.1f} s undisturbed, {wholes[kind]}"
    for sort, count in counts.items():
        outcomes = list[Outcome]()
        # a limit on the size of files would be the C++ compiler's too
        fit = [kind for kind in kinds if sort != "full disk" or "--compile" not in kind]
        while len(outcomes) < count and fit:
            kind, out = fit[len(outcomes) % len(fit)], folder / f"{sort} {len(outcomes)}"
            disturb = SORTS[sort](out, draws, wholes[kind])
            outcome = disturbed(kind, wholes[kind], out, disturb, draws.randrange(1, 4))
            shutil.rmtree(out, ignore_errors=True)
            if outcome.disturbed or outcome.fault:  # else it was over before its moment: again
                outcomes.append(outcome)
                yield f"{sort} {len(outcomes)}: {' '.join(map(str, outcome))}"
        good = sum(outcome.fault is None for outcome in outcomes)
        times = sum(outcome.disturbed for outcome in outcomes)
        yield f"{sort}: {good} of {count} as the undisturbed run, {times} disturbances"
    for kind, whole in wholes.items():
        for name, faults in unnoticed(latest(whole.path), draws, 200, 50).items():
            yield f"{kind}, {name}: {len(faults)} of 250 damages unnoticed {set(faults) or ''}"
    shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="runs to be killed")
    parser.add_argument("--stops", type=int, default=20, help="runs to be told to stop")
    parser.add_argument("--full", type=int, default=20, help="runs on a disk that fills up")
    parser.add_argument("--kinds", default=",".join(KINDS), help="which runs, in turn")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    args = parser.parse_args()
    began = time.monotonic()
    counts = dict(zip(SORTS, (args.kills, args.stops, args.full), strict=True))
    for line in tortured(args.kinds.split(","), counts, args.seed):
        print(line, flush=True)
    print(f"{(time.monotonic() - began) / 60:.1f} minutes")


if __name__ == "__main__":
    os.environ.setdefault("PYTHONPATH", str(Path(__file__).parents[2]))
    main()
