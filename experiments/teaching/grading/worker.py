"""The process that runs one submitted notebook, and calls the checks on what it defines.

It reads its order as JSON from the standard input, and writes a line for every finding. Lines
begin with a word of the order's, so that what a notebook prints is never taken for one.
"""

import faulthandler
import json
import linecache
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

from experiments.errors import one_line, text_of
from experiments.teaching.grading.sandbox import confine
from experiments.teaching.grading.sealed import Kept, private_checks

UNSURPRISING = ("Wrong", "Unwritten", "NotImplementedError")
"""Errors that the notebook's own checks and stubs raise: points tell of them."""


class Overtime(BaseException):
    """A cell that takes too long."""


def main() -> None:
    order = json.loads(sys.stdin.buffer.read())
    tell = _own_channel(order["word"])
    os.environ.update(LAB_DATA="digits", LAB_EPOCHS="1")
    checks, given = private_checks(), _given()
    kept = Kept()
    confine(Path.cwd())
    tell({"started": True})
    names: dict[str, Any] = {"__name__": "__main__", "display": print, "get_ipython": MagicMock}
    grader = Grader(order["calls"], given, checks, kept, tell)
    public = sys.modules["experiments.teaching.check"]
    end = time.monotonic() + order["seconds"]
    nowhere = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    # whatever this process is doing then, it ends with exit code 1
    faulthandler.dump_traceback_later(order["seconds"], exit=True, file=nowhere)
    for cell in order["cells"]:
        tell({"cell": cell["number"]})
        with _noticed(cell["number"], tell), _limited((end - time.monotonic()) / 2):
            _run(cell["code"], f"cell {cell['number']}", names)
        grader.look(names)
        if names.get("check", public) is not public:
            tell({"replaced": ["check"]})
    grader.look(names, again=True)  # helpers and imports may come after what uses them
    tell({"replaced": kept.replaced()})
    tell({"done": True})


def _run(code: str, name: str, names: dict[str, Any]) -> None:
    """Run a cell; its source is kept for what reads it, such as ``torch.jit.script``."""
    linecache.cache[name] = len(code), None, [f"{line}\n" for line in code.split("\n")], name
    exec(compile(code, name, "exec"), names)


def _own_channel(word: str) -> Callable[[dict[str, Any]], None]:
    """Keep the standard output for findings; what a notebook prints goes nowhere."""
    kept = os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)

    def tell(finding: dict[str, Any]) -> None:
        os.write(kept, f"{word} {json.dumps(finding)}\n".encode())

    return tell


def _given() -> dict[str, Any]:
    """What the cells before the first task define, where a notebook has lost them."""
    import torch
    from torch import nn

    from experiments.teaching.lab import open_lab

    lab = open_lab("digits")
    N, D = lab.x_train.shape
    images = {"lab": lab, "x_train": lab.x_train, "x_test": lab.x_test}
    return {"torch": torch, "nn": nn, **images, "N": N, "D": D, "M": 2, "H": 400}


@contextmanager
def _noticed(number: int, tell: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Tell of an error inside, and go on."""
    try:
        yield
    except BaseException as error:
        name = type(error).__name__
        if name == "Overtime":
            tell({"error": f"cell {number}: stopped, it took too long"})
        elif name not in UNSURPRISING:
            tell({"error": one_line(f"cell {number}: {name}: {text_of(error)}", 300)})


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise ``Overtime`` inside after a number of seconds."""

    def stop(*_: Any) -> None:
        raise Overtime

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.1))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@dataclass
class Grader:
    """Calls each check whenever a notebook has given one of its names another value.

    Args:
        open: name, code and needs of the checks that are not passed yet, by their keys.
        given: values of names that the notebook may have lost.
        checks: the private copy of the checks.
        kept: the libraries as they were.
        tell: where findings go.
        tried: the values that checks were called on last.
    """

    open: dict[str, tuple[str, str, list[str]]]
    given: dict[str, Any]
    checks: Any
    kept: Kept
    tell: Callable[[dict[str, Any]], None]
    tried: dict[str, list[Any]] = field(default_factory=dict)

    def look(self, names: dict[str, Any], again: bool = False) -> None:
        """Call the checks that are still open and concern something new, or all that are open."""
        known = {**self.given, **names}
        for key, (_, code, needs) in list(self.open.items()):
            lost = [name for name in needs if name not in known]
            wanted = [known.get(name) for name in needs]
            before = self.tried.get(key)
            new = before is None or any(a is not b for a, b in zip(wanted, before, strict=True))
            if lost and again and before is None:
                words = f"not called, since the notebook does not define {', '.join(lost)}"
                self.tell({"check": key, "hint": words})
            elif (new or again) and not lost:
                self.tried[key] = wanted
                self._call(key, code, known)

    def _call(self, key: str, code: str, known: dict[str, Any]) -> None:
        compiled = compile(code, key, "eval")
        hint = ""
        try:
            with self.kept.restored(), _limited(60):
                eval(compiled, {**known, "check": self.checks})
        except BaseException as error:  # an empty hint would be a pass
            hint = one_line(text_of(error), 500) or one_line(type(error).__name__, 500) or "error"
        else:
            del self.open[key]
        self.tell({"check": key, "hint": hint})


if __name__ == "__main__":
    main()
