"""Checks the version of Python and the installed packages, with the standard library alone."""

import importlib.util
import os
import sys
from pathlib import Path

NEEDED = ("torch", "pyro", "numpy", "tyro", "matplotlib", "tqdm", "safetensors")
"""What every command imports."""

PYTHON = (3, 11)


def check_installed() -> None:
    """End with one line and code 2 where this Python is too old or lacks a package."""
    if sys.version_info < PYTHON:
        found = sys.version.split()[0]
        _end(f"Python {PYTHON[0]}.{PYTHON[1]} or later is needed, this is {found}")
    for name in NEEDED:
        if importlib.util.find_spec(name) is None:
            not_installed(name)


def not_installed(name: str) -> None:
    """End a command that lacks a package."""
    _end(f"the package {name} is not installed for {sys.executable or 'this Python'}")


def _end(problem: str) -> None:
    home = Path(__file__).resolve().parents[3]
    activate = os.path.relpath(home / ".venv/bin/activate")
    advice = f"Activate the environment: source {activate}"
    if not (home / ".venv/bin/activate").is_file():
        there = "" if home == Path.cwd() else f"cd {os.path.relpath(home)} && "
        install = f"{there}python3 -m venv .venv && .venv/bin/pip install -e ."
        advice = f"Install once: {install} (or make demo). Then activate: source {activate}"
    print(f"error: {problem}. {advice}", file=sys.stderr)
    sys.exit(2)
