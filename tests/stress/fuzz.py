"""Malformed input, thousands of times: what a command says of it, and what it leaves behind.

Every case must end soon, with exit code 2 (or 1) and one line on stderr that begins with
"error: ", after "warning: " lines at most; and the files around it must be as they were, byte for
byte, unless it left a run that --resume continues. Damage that changes nothing a command reads may
be taken; such cases come on top of the count. A case follows from seed, kind and number alone.

    python tests/stress/fuzz.py --count 2000 --subprocesses 50 --seed 0
    python tests/stress/fuzz.py --only "IDX files:123" --seed 0 --keep somewhere
"""

import argparse
import contextlib
import hashlib
import io
import itertools
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[2])]

from experiments.__main__ import main as experiments
from tests.stress.fuzz_files import idx_files, saved_run
from tests.stress.fuzz_images import images
from tests.stress.fuzz_words import STOCK, Case, command_line

ROOT = Path(__file__).parents[2]
MAKERS = {
    "command lines": command_line,
    "saved runs": saved_run,
    "IDX files": idx_files,
    "images": images,
}
SHARES = {"command lines": 0.4, "saved runs": 0.25, "IDX files": 0.15, "images": 0.2}
"""Of the cases, by kind."""
LIMIT = 60
"""Seconds after which a case counts as one that hangs."""


class Hang(BaseException):
    """A case that went past its limit."""


class Ended(NamedTuple):
    """Exit code, the lines on stderr, and the time [seconds]."""

    code: int | str
    lines: list[str]
    seconds: float


def stock(home: Path) -> Path:
    """Make the finished runs that cases damage, in ``home/runs``."""
    with contextlib.chdir(home), offline():
        for name, words in STOCK.items():
            ended = in_process([*words, "--out", f"runs/{name}"])
            assert ended.code == 0, ended
            for part in ("figures", "tensorboard"):
                shutil.rmtree(f"runs/{name}/{part}", ignore_errors=True)
        ended = in_process(["export-nvae", "runs/nvae", "--file", "runs/nvae.pt"])
        assert ended.code == 0, ended
    return home / "runs"


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Without data, GPUs or a network (downloads fail at once), and with 8 GiB more at most."""
    kept, limits = dict(os.environ), resource.getrlimit(resource.RLIMIT_AS)
    held = resource.getpagesize() * int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (held + (8 << 30), limits[1]))
    os.environ.pop("PPL_DATA", None)
    refused = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    os.environ.update(refused, CUDA_VISIBLE_DEVICES="", PYTHONPATH=str(ROOT))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        os.environ.clear()
        os.environ.update(kept)


def in_process(words: list[str]) -> Ended:
    """Run a command here, as ``python -m experiments`` does."""

    def too_long(*_: object) -> None:
        raise Hang

    def said(message: object, *_: object, **__: object) -> None:
        print(f"warning: {message}", file=sys.stderr)

    output, began, kept = io.StringIO(), time.perf_counter(), sys.argv
    before = signal.signal(signal.SIGALRM, too_long)
    code: int | str = 0
    try:
        signal.alarm(LIMIT)
        sys.argv = ["experiments", *words]
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(output),
            warnings.catch_warnings(),
        ):
            warnings.resetwarnings()
            for kind in (
                DeprecationWarning,
                PendingDeprecationWarning,
                ImportWarning,
                ResourceWarning,
            ):
                warnings.simplefilter("ignore", kind)
            warnings.showwarning = said
            experiments()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except Hang:
        code = "hang"
    except BaseException as error:
        code = repr(error)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        sys.argv = kept
    return Ended(code, output.getvalue().strip("\n").split("\n"), time.perf_counter() - began)


def as_process(words: list[str]) -> Ended:
    """Run a command as a process of its own; no such process can be given a NUL character."""
    command = [sys.executable, "-m", "experiments", *(word.replace("\0", "") for word in words)]
    began = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, timeout=2 * LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return Ended("hang", [""], time.perf_counter() - began)
    lines = done.stderr.decode(errors="replace").strip("\n").split("\n")
    return Ended(done.returncode, lines, time.perf_counter() - began)


def state(home: Path) -> dict[str, str]:
    """Everything below a directory by its name; of folders of data only what they hold."""
    found = {}
    for path in home.rglob("*"):
        name = str(path.relative_to(home))
        if path.is_symlink():
            found[name] = f"link to {os.readlink(path)}"
        elif path.is_file():
            large = path.stat().st_size > 2**30
            found[name] = "large" if large else hashlib.sha256(path.read_bytes()).hexdigest()
        elif not name.startswith("data"):
            found[name] = "directory or device"
    return found


def wrong(case: Case, ended: Ended, before: dict[str, str], after: dict[str, str]) -> list[str]:
    """In what a case did not end as it should."""
    *first, last = ended.lines
    reasons = []
    if ended.code == 0 and case.may_pass:
        return [f"said {line!r}" for line in ended.lines if line and line[:9] != "warning: "]
    if ended.code not in (1, 2):
        reasons.append(f"ended with {ended.code}")
    if not last.startswith("error: ") or any(not line.startswith("warning: ") for line in first):
        reasons.append("more or less than one line")
    if not last.isprintable():
        reasons.append("characters that no terminal shows")
    if "PPL_DEBUG" in last or "Traceback" in "".join(ended.lines):
        reasons.append("nobody foresaw it")
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    # of runs that trained, and can be resumed
    trained = {name.partition("/checkpoint/")[0] for name in changed if "/checkpoint/" in name}
    left = {name for name in changed if not any(f"{name}/".startswith(f"{t}/") for t in trained)}
    return reasons + ([f"left {', '.join(sorted(left)[:3])}"] if left else [])


def one(
    kind: str, number: int, seed: int, runs: Path, home: Path, process: bool = False
) -> tuple[Case, Ended, list[str]]:
    """Make a case in ``home``, run it there and judge it."""
    shutil.copytree(runs, home / "runs")
    with contextlib.chdir(home), offline():
        case = MAKERS[kind](random.Random(f"{seed}/{kind}/{number}"), home)
        before = state(home)
        ended = (as_process if process else in_process)(case.words)
        reasons = wrong(case, ended, before, state(home))
    return case, ended, reasons


class Tally:
    """What became of the cases of one kind."""

    def __init__(self) -> None:
        self.ends: Counter = Counter()
        self.lines: Counter = Counter()
        self.failures: list[str] = []
        self.slowest = 0.0

    def add(self, name: str, case: Case, ended: Ended, reasons: list[str]) -> None:
        self.ends[ended.code] += 1
        self.lines[f"{ended.code} {ended.lines[-1][:200]!r}"] += 1
        self.slowest = max(self.slowest, ended.seconds)
        if reasons:
            words = [word[:60] for word in case.words]
            said = " | ".join([*reasons, *ended.lines[-2:]])
            self.failures.append(f"--only {name!r} {words}: {said[:600]}")

    @property
    def refused(self) -> int:
        return self.ends.total() - self.ends[0]


def fuzz(kind: str, count: int, seed: int, runs: Path, process: bool = False) -> Tally:
    """Run cases of a kind until ``count`` were not taken after all."""
    tally = Tally()
    for number in itertools.count():
        if tally.refused >= count:
            return tally
        with tempfile.TemporaryDirectory() as home:
            found = one(kind, number, seed, runs, Path(home), process)
        tally.add(f"{kind}:{number}", *found)
    raise AssertionError


def report(kind: str, tally: Tally, seconds: float, lines: bool) -> None:
    """Print a line on a kind, and one on every failure."""
    ends = ", ".join(f"{tally.ends[code]} x {code}" for code in sorted(tally.ends, key=str))
    print(
        f"{kind}: {tally.refused} refused (exit codes {ends}), {seconds:.0f} s, the slowest "
        f"{tally.slowest:.1f} s, {len(tally.failures)} failures",
        flush=True,
    )
    for failure in tally.failures:
        print(f"  {failure}", flush=True)
    for line, number in sorted(tally.lines.items()) if lines else ():
        print(f"    {number:4} {line}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Malformed input, thousands of times.")
    parser.add_argument("--count", type=int, default=2000, help="cases in this process")
    parser.add_argument("--subprocesses", type=int, default=50, help="cases as processes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="KIND, or KIND:NUMBER for a single case")
    parser.add_argument("--keep", type=Path, help="a directory for the files of a single case")
    parser.add_argument("--lines", action="store_true", help="print every different last line")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs, failures = stock(Path(folder)), 0
        if given.only and ":" in given.only:
            kind, number = given.only.split(":")
            print(*one(kind, int(number), given.seed, runs, given.keep or Path(folder, "case")))
            return
        for process, count in ((False, given.count), (True, given.subprocesses)):
            for kind, share in SHARES.items():
                if given.only in (None, kind):
                    began = time.perf_counter()
                    tally = fuzz(kind, round(count * share), given.seed, runs, process)
                    name = f"{kind}, as processes" if process else kind
                    report(name, tally, time.perf_counter() - began, given.lines)
                    failures += len(tally.failures)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
