"""The points of a grid as runs: checked by the command's own parser before any is started."""

import dataclasses
import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from experiments.__main__ import COMMANDS
from experiments.runs.checkpoint import checkpoints
from experiments.runs.cli import parse
from experiments.runs.environment import plain
from experiments.runs.errors import UsageError
from experiments.runs.files import read_json, write_json
from experiments.runs.grid import Grid, arguments, name_of, points
from experiments.runs.option_names import option_names, positional_names
from experiments.runs.options import check
from ppl_models.names import suggestion, unknown

__all__ = ["Planned", "plan", "save_plan"]

NOT_OF_RUNS = ("sweep", "reproduce", "explore", "animate")
"""Commands whose results are no directory of one run."""

ELSEWHERE = {"out", "resume", "device", "memory", "data_root"}
"""Options that a finished run may have had otherwise."""

PLAN = "sweep.json"

State = Literal["finished", "to continue", "to run"]


class Planned(NamedTuple):
    """A point of the grid, the command line that runs it, and how far it has come.

    ``arguments`` come after ``python -m module``; ``options`` are what the command makes of them.
    """

    point: dict[str, str]
    module: str
    arguments: list[str]
    options: dict[str, Any]
    path: Path
    state: State

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def log(self) -> Path:
        """Where it writes what it prints."""
        return self.path.parent / "logs" / f"{self.name}.log"


def plan(command: str, grid: Grid, out: Path) -> list[Planned]:
    """Every point as a run below ``out``.

    Raises:
        UsageError: If the command is unknown, an option or a value is none of its, two points are
            the same run, or ``out`` holds anything but this command's sweep.
    """
    module = _module(command)
    saved = _saved_options(command, out)
    runs: dict[str, Planned] = {}
    same: dict[str, str] = {}
    for point in points(grid):
        name = name_of(point)
        words, options = _checked(command, module, point, grid.shared)
        key = json.dumps(options, sort_keys=True)
        if name in runs or key in same:
            raise UsageError(f"two points are the same run: {same.get(key, name)} and {name}.")
        same[key] = name
        path = out / name
        state = _state(path, options, saved.get(name, options))
        if state == "to continue" and "resume" not in options:
            state = "to run"
        runs[name] = Planned(point, module.__name__, words, options, path, state)
    return list(runs.values())


def save_plan(command: str, out: Path, runs: Sequence[Planned]) -> None:
    """Write what every run is made with, those of earlier grids among them."""
    options = _saved_options(command, out) | {run.name: run.options for run in runs}
    (out / "logs").mkdir(parents=True, exist_ok=True)
    write_json(out / PLAN, {"command": command, "options": options})


def _module(command: str) -> Any:
    if command not in COMMANDS:
        raise UsageError(unknown("command", command, COMMANDS))
    module = importlib.import_module(f"experiments.{command.replace('-', '_')}")
    fields = {f.name for f in dataclasses.fields(module.Config)}
    if command in NOT_OF_RUNS or not {"out", "seed"} <= fields:
        raise UsageError(f"'{command}' makes no run of its own to be swept.")
    return module


def _saved_options(command: str, out: Path) -> dict[str, Any]:
    """What runs below ``out`` were made with, by their names."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return {}
    saved = read_json(out / PLAN) if (out / PLAN).exists() else {}
    made = saved.get("command") if isinstance(saved, dict) else None
    if made != command:
        what = f"a sweep of {made}" if made else "something that is no sweep"
        raise UsageError(f"--out {out} holds {what}; name another directory.")
    return saved["options"]


def _checked(
    command: str, module: Any, point: Mapping[str, str], shared: Mapping[str, str]
) -> tuple[list[str], dict[str, Any]]:
    """The command line of a point, and its options as the command reads them."""
    settings = {**shared, **point}
    for name in ("out", "resume"):
        if name in settings:
            raise UsageError(f"'{name}' is decided by the sweep, for every run.")
    try:
        words = arguments(settings, positional_names(module.Config))
        known = option_names(module.Config, words)
        for name in settings:
            if name not in known:
                raise UsageError(f"{command} has no option '{name}'; {_nearest(name, known)}")
        config = parse(module.Config, module.main, words)
        check(config)
        _check_guide(command, config)
    except UsageError as error:
        raise UsageError(f"{name_of(point)}: {error}") from error
    return words, plain(dataclasses.asdict(config))


def _nearest(name: str, known: Sequence[str]) -> str:
    kind, dot, _ = name.rpartition(".")
    if dot:
        own = [option for option in known if option.startswith(f"{kind}.")]
        return f"with this {kind} it has {', '.join(own) or 'none'}."
    last = {option.rpartition(".")[2]: option for option in known}
    near = suggestion(name, known) or suggestion(last.get(name, ""), known)
    return near.rstrip() or f"it has {', '.join(known)}."


def _check_guide(command: str, config: Any) -> None:
    """Refuse a guide that a model by this name does not take; others are refused by their run."""
    from guides import PAIRS

    model, guide = getattr(config, "model", command), getattr(config, "guide", None)
    if model in PAIRS and isinstance(guide, str) and guide not in PAIRS[model]:
        raise UsageError(f"{model} does not take it, but {', '.join(PAIRS[model])}.")


def _state(path: Path, options: dict[str, Any], saved: dict[str, Any]) -> State:
    """How far a run has come.

    Raises:
        UsageError: If it was made with other options.
    """
    finished = (path / "metrics.json").exists()
    if not finished and not checkpoints(path):
        return "to run"
    differing = [
        name for name, value in options.items()
        if name not in ELSEWHERE and saved.get(name, value) != value
    ]  # fmt: skip
    if differing:
        raise UsageError(
            f"{path} was made with other options ({', '.join(differing)}); name another --out."
        )
    return "finished" if finished else "to continue"
