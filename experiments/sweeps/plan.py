"""The points of a grid as runs, all checked by the command's parser before any is started."""

import dataclasses
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from experiments.data.loading import is_array_file
from experiments.errors import UsageError
from experiments.options.commands import COMMANDS, module_of
from experiments.options.common import check
from experiments.options.parsing import parse
from experiments.runs.environment import plain
from experiments.runs.files import missing, read_json, reading, write_json
from experiments.runs.resuming import asked_options, holds_nothing, is_finished
from experiments.sweeps.grid import Grid, arguments, name_of, points
from guides import PAIRS
from ppl_models.names import unknown

NOT_OF_RUNS = ("sweep", "reproduce", "explore", "animate")
"""Commands that do not write one run directory."""

ELSEWHERE = {"out", "resume", "device", "memory", "data_root", "data_changed"}
"""Options in which runs of the same sweep may differ."""

PLAN = "sweep.json"


class Planned(NamedTuple):
    """A point of the grid and the command line that runs it.

    ``options`` are parsed from the ``arguments`` of ``python -m module``.
    """

    point: dict[str, str]
    module: str
    arguments: list[str]
    options: dict[str, Any]
    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def log(self) -> Path:
        return self.path.parent / "logs" / f"{self.name}.log"

    @property
    def state(self) -> Literal["finished", "to continue", "to run"]:
        """Its progress."""
        if is_finished(self.path):
            return "finished"
        begun = self.path.is_dir() and not holds_nothing(self.path)
        return "to continue" if begun and "resume" in self.options else "to run"

    def metrics(self) -> dict[str, Any]:
        """The final figures; empty if the run is not finished."""
        return read_json(self.path / "metrics.json") if is_finished(self.path) else {}

    def check_options(self) -> None:
        """Refuse a run directory that was made with other options, by its own ``config.json``."""
        path = self.path / "config.json"
        if not path.exists() or self.state == "to run":
            return
        content = read_json(path)
        with reading(path):
            saved = asked_options(content)
            before = dict(dict(content.get("of") or {}).get("options") or {})
        self._check_measured(before)
        if differing := _differing(self.options, saved):
            raise UsageError(
                f"{self.path} was made with other options ({differing}); name another --out."
            )
        if self.state == "finished" and saved.get("data_root") != self.options.get("data_root"):
            data = self.options.get("data", "")
            own = data == "folder" or is_array_file(data)
            if own and self.options.get("data_changed") != "ok":
                raise UsageError(
                    f"{self.path} was made with another --data-root; name another --out, or add "
                    "data_changed=ok if the files are the same."
                )

    def _check_measured(self, before: dict[str, Any]) -> None:
        """Refuse figures of a run whose options, then ``before``, have changed since."""
        run = self.options.get("run")
        if not (before and run) or not (config := Path(run) / "config.json").exists():
            return
        content = read_json(config)
        with reading(config):
            now = dict(content.get("options") or {})
        if differing := _differing(before, now):
            raise UsageError(
                f"{self.path} measures {run} as it was before ({differing} differ): "
                "move it away, or name another --out."
            )


def _differing(options: dict[str, Any], other: dict[str, Any]) -> str:
    """Names of the options with other values, without those that may differ."""
    names = (n for n, value in options.items() if other.get(n, value) != value)
    return ", ".join(name for name in names if name not in ELSEWHERE)


def plan(command: str, grid: Grid, out: Path) -> list[Planned]:
    """Every point as a run below ``out``, whether or not it exists."""
    module = _module(command)
    runs: list[Planned] = []
    for point in points(grid):
        words, options = _checked(command, module, point, grid.shared)
        run = Planned(point, module.__name__, words, options, out / name_of(point))
        for other in runs:
            if run.path == other.path or run.options == other.options:
                raise UsageError(f"two points are the same run: {other.name} and {run.name}.")
        runs.append(run)
    return runs


def check_directory(command: str, out: Path) -> None:
    """Refuse a directory that contains anything except this command's sweep."""
    if missing(out) or (out.is_dir() and holds_nothing(out)):
        return
    made = read_json(out / PLAN).get("command") if (out / PLAN).exists() else None
    if made != command:
        what = f"a sweep of {made}" if made else "something other than a sweep"
        raise UsageError(f"--out {out} holds {what}; name another directory.")


def save_plan(command: str, out: Path) -> None:
    """Mark the directory as that of this command's sweep."""
    if not (out / PLAN).exists():
        write_json(out / PLAN, {"command": command})
    (out / "logs").mkdir(exist_ok=True)


def _module(command: str) -> Any:
    if command not in COMMANDS:
        raise UsageError(unknown("command", command, COMMANDS))
    module = importlib.import_module(module_of(command))
    fields = {f.name for f in dataclasses.fields(module.Config)}
    if command in NOT_OF_RUNS or not {"out", "seed"} <= fields:
        raise UsageError(f"'{command}' writes no run directory, so it cannot be swept.")
    return module


def _checked(
    command: str, module: Any, point: Mapping[str, str], shared: Mapping[str, str]
) -> tuple[list[str], dict[str, Any]]:
    """The command line of a point, and its options as the command reads them."""
    settings = {**shared, **point}
    for name in ("out", "resume"):
        if name in settings:
            raise UsageError(f"'{name}' is set by the sweep for every run.")
    try:
        words = arguments(settings, ("run", "file", "name"))
        config = parse(module.Config, module.main, words)
        check(config)
        _check_guide(command, config)
    except UsageError as error:
        raise UsageError(f"{name_of(point)}: {error}") from error
    return words, plain(dataclasses.asdict(config))


def _check_guide(command: str, config: Any) -> None:
    """Refuse a guide that a model of ours does not take; other pairs are checked by their run."""
    model, guide = getattr(config, "model", command), getattr(config, "guide", None)
    ours = isinstance(guide, str) and ":" not in guide
    if ours and model in PAIRS and guide not in PAIRS[model]:
        fitting = ", ".join(PAIRS[model])
        raise UsageError(f"{model} does not take the guide {guide}; it takes {fitting}.")
