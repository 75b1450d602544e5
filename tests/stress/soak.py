"""Twenty minutes of training: do memory and the time of a step stay flat?

By hand: python tests/stress/soak.py --minutes 20
A run remembers 8 bytes per step and 150 per epoch, its log; whatever else grows is a leak.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from scipy.stats import linregress

from experiments.runs.checkpoint import checkpoints

ARGS = [
    "vae",
    "--batch-size",
    "200",
    "--schedule",
    "constant",
    "--lr",
    "1e-3",
    "--binarize",
    "dynamic",
    "--likelihood",
    "bernoulli",
    "--no-compile",
]


def resident(process: int) -> float:
    """Memory that a process holds [MiB]."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def watched(minutes: float, data: str, out: Path) -> tuple[list[float], list[float]]:
    """Seconds since training began, and the memory held then [MiB], twice a second."""
    words = [*ARGS, "--data", data, "--minutes", str(minutes), "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments", *words], stdout=subprocess.DEVNULL
    )
    times, memory, began = list[float](), list[float](), 0.0
    while process.poll() is None and not (out / "metrics.json").exists():
        if checkpoints(out):
            began = began or time.monotonic()
            times.append(time.monotonic() - began)
            memory.append(resident(process.pid))
        time.sleep(0.5)
    assert process.wait() == 0
    return times, memory


def slope(x: list[float], y: list[float], unit: str) -> str:
    """Of y over an hour of x [seconds], its standard error from ten blocks, and their means."""
    size = max(1, len(x) // 10)
    blocks = range(0, size * (len(x) // size), size)
    means = [[sum(values[i : i + size]) / size for i in blocks] for values in (x, y)]
    fit = linregress(*means)
    shown = " ".join(f"{mean:.4g}" for mean in means[1])
    return f"{3600 * fit.slope:.4g} ± {3600 * fit.stderr:.2g} {unit} per hour, of {shown} {unit}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20.0, help="of training")
    parser.add_argument("--data", default="mnist", help="what is trained on")
    args = parser.parse_args()
    minutes, out = args.minutes, Path(tempfile.mkdtemp(prefix="soak-")) / "run"
    times, memory = watched(minutes, args.data, out)
    first = len([t for t in times if t < 60 * minutes / 20])  # libraries fill their caches
    last = len([t for t in times if t < 60 * minutes])
    print("memory: " + slope(times[first:last], memory[first:last], "MiB"))
    lines = (out / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines][:-1]  # the last epoch is cut short
    ends, steps, total, done = list[float](), list[float](), 0.0, 0
    for record in records:
        total += record["seconds"]
        ends.append(total)
        steps.append(1000 * record["seconds"] / (record["steps"] - done))
        done = record["steps"]
    first = len(ends) // 20
    print(f"time of a step, {done} steps: " + slope(ends[first:], steps[first:], "ms"))


if __name__ == "__main__":
    main()
