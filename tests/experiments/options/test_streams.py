"""Narrow locales, closed streams, full disks behind stdout: no run ends for them."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.options.process import streams

ROOT = Path(__file__).parents[3]
SMALL = "--data digits --rows 100 --epochs 1 --latent-dim 2"
NARROW = {
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "latin": {"PYTHONIOENCODING": "iso-8859-1", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"},
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


@pytest.mark.parametrize("locale", NARROW)
def test_commands_in_a_narrow_locale(locale, tmp_path):
    lines = [
        f"ppca {SMALL} --out a",
        "evaluate a --particles 2 --out b",
        f"compare {SMALL} --guides exact,prior --particles 2 --out c",
        "compare --runs a a --out d",
    ]
    done = run(
        [sys.executable, "-c", COMMANDS, *lines],
        cwd=tmp_path,
        capture_output=True,
        environment=NARROW[locale],
    )
    assert (done.returncode, done.stderr) == (0, b"")
    sign = "±".encode("iso-8859-1" if locale == "latin" else "ascii", "backslashreplace")
    assert sign in done.stdout
    for name in "abcd":
        assert json.loads((tmp_path / name / "metrics.json").read_text(encoding="utf-8"))
        assert "±" in (tmp_path / name / "report.html").read_text(encoding="utf-8") or name != "d"
    assert "±" in (tmp_path / "d" / "table.md").read_text(encoding="utf-8")


def test_a_run_outlives_its_streams(tmp_path):
    done = shell(
        f"$PY -m experiments ppca {SMALL} --out full >/dev/full 2>&-; echo $?\n"
        f"$PY -m experiments.ppca {SMALL} --out pipe | head -1; echo ${{PIPESTATUS[0]}}\n"
        f"$PY -m experiments ppca {SMALL} --out closed <&- >&- 2>/dev/full; echo $?\n",
        tmp_path,
    )
    full, first, pipe, closed = done.stdout.decode().splitlines()
    assert (full, pipe, closed) == ("1", "0", "0")
    assert first.startswith("digits: ")
    for name in ("full", "pipe", "closed"):
        assert (tmp_path / name / "report.html").exists()
        assert sorted(os.listdir(tmp_path / name)) == sorted(os.listdir(tmp_path / "full"))


def test_output_that_is_lost_has_an_exit_code(tmp_path):
    done = shell(
        "$PY -m experiments --help >/dev/full; echo $?; $PY -m experiments --help >&-; echo $?\n"
        "$PY -m experiments nothing 2>&-; echo $?\n"
        "$PY -m experiments nothing 2>/dev/full; echo $?\n",
        tmp_path,
    )
    assert done.stdout.split() == [b"1", b"0", b"2", b"2"]
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
