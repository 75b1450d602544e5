"""Narrow locales, closed streams, full disks behind stdout: no run ends for them."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

from experiments.options.process import streams
from tests.shared.forked import Process, as_new

ROOT = Path(__file__).parents[3]
SMALL = "--data digits --rows 100 --epochs 1 --latent-dim 2"
NARROW = {
    "ascii": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "iso-8859-1": {
        "PYTHONIOENCODING": "iso-8859-1",
        "LC_ALL": "C",
        "PYTHONCOERCECLOCALE": "0",
    },
}
COMMANDS = """
import shlex, sys
from importlib import import_module
from experiments.options.commands import module_of
from experiments.runs.cli import cli

for line in sys.argv[1:]:
    name, *args = shlex.split(line)
    module = import_module(module_of(name))
    cli(module.Config, module.main, args)
"""


def run(words: list[str], **options) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment |= options.pop("environment", {})
    return subprocess.run(words, env=environment, check=False, timeout=120, **options)


def shell(line: str, folder: Path) -> subprocess.CompletedProcess:
    """A line of bash in which ``$PY`` is Python."""
    return run(
        ["bash", "-c", line], cwd=folder, environment={"PY": sys.executable}, capture_output=True
    )


def test_commands_in_a_narrow_locale(tmp_path):
    lines = [
        f"ppca {SMALL} --out a",
        "evaluate a --particles 2 --out b",
        f"compare {SMALL} --guides exact,prior --particles 2 --out c",
        "compare --runs a a --out d",
    ]
    for encoding, more in (("ascii", lines), ("iso-8859-1", ["compare --runs a a --out e"])):
        done = run(
            [sys.executable, "-c", COMMANDS, *more],
            cwd=tmp_path,
            capture_output=True,
            environment=NARROW[encoding],
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert "±".encode(encoding, "backslashreplace") in done.stdout
    for name in "abcde":
        assert json.loads((tmp_path / name / "metrics.json").read_text(encoding="utf-8"))
    for name in "de":
        for page in ("report.html", "table.md"):
            assert "±" in (tmp_path / name / page).read_text(encoding="utf-8")


def on_streams(
    out: str, folder: Path, *standard: int | None, others: int | None = None
) -> Process:
    """A run in a fork, with the standard streams of a Python that was started with these.

    Args:
        out: its directory.
        folder: its working directory.
        standard: descriptors that become the first three; None where one is closed.
        others: a descriptor that only this process holds.
    """

    def prepare() -> None:
        as_new()
        for number, descriptor in enumerate(standard):
            if descriptor is None:
                os.close(number)
            else:
                os.dup2(descriptor, number)
        if others is not None:
            os.close(others)
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            is_open, mode = standard[number] is not None, "w" if number else "r"
            stream = open(number, mode, closefd=False) if is_open else None  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)

    words = ["ppca", *SMALL.split(), "--out", out]
    return Process(words, folder / f"said-{out}", prepare, folder)


def test_a_run_outlives_its_streams(tmp_path):
    null, full = os.open(os.devnull, os.O_RDONLY), os.open("/dev/full", os.O_WRONLY)
    assert on_streams("full", tmp_path, null, full, None).wait() == 1
    assert on_streams("closed", tmp_path, None, None, full).wait() == 0
    for descriptor in (null, full):
        os.close(descriptor)
    reads, writes = os.pipe()
    run = on_streams("pipe", tmp_path, 0, writes, 2, others=reads)
    os.close(writes)
    with open(reads, encoding="utf-8") as pipe:
        assert pipe.readline().startswith("digits: ")
    assert run.wait() == 0
    for name in ("full", "pipe", "closed"):
        assert (tmp_path / name / "report.html").exists()
        assert sorted(os.listdir(tmp_path / name)) == sorted(os.listdir(tmp_path / "full"))


def test_output_that_is_lost_has_an_exit_code(tmp_path):
    done = shell(
        "$PY -m experiments --help >/dev/full; echo $?; $PY -m experiments --help >&-; echo $?\n"
        "$PY -m experiments nothing 2>&-; echo $?\n"
        "$PY -m experiments nothing 2>/dev/full; echo $?\n"
        "$PY -m experiments --help | true; echo ${PIPESTATUS[0]}\n",
        tmp_path,
    )
    assert done.stdout.split() == [b"1", b"0", b"2", b"2", b"0"]
    assert done.stderr == b"error: stdout cannot be written (No space left on device).\n"


def test_every_text_file_names_its_encoding():
    offenders = []
    for folder in ("ppl_models", "guides", "experiments", "docs"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(call, ast.Call) and opens_text(call):
                    offenders.append(f"{path.relative_to(ROOT)}:{call.lineno}")
    assert not offenders


def opens_text(call: ast.Call) -> bool:
    """Whether a call opens, reads or writes a text file in the locale's encoding."""
    name = ast.unparse(call.func)
    inside = [
        node.value
        for word in call.args
        for node in ast.walk(word)
        if isinstance(node, ast.Constant)
    ]
    if any(word.arg == "encoding" for word in call.keywords) or {"rb", "wb", "ab"} & {*inside}:
        return False
    if name.endswith((".read_text", ".write_text")):
        return True
    opened = name.endswith(".open") or name in ("open", "os.fdopen", "TextIOWrapper")
    # a member of a zip archive is opened for bytes
    return opened and name not in ("os.open", "Image.open", "archive.open")


def test_a_log_has_every_line_when_it_is_printed(tmp_path):
    with (tmp_path / "log").open("w") as stream:
        print("epoch 1", file=streams._safe(stream, stream))
        assert (tmp_path / "log").read_text() == "epoch 1\n"
