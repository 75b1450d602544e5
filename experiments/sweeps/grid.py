"""A grid of options: its syntax, its points, and their command lines."""

import hashlib
import itertools
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.errors import UsageError
from experiments.runs.files import reading

__all__ = ["Grid", "arguments", "name_of", "points", "read_grid"]

BETWEEN_VALUES = re.compile(r",(?![^(]*\))")
"""Commas outside brackets."""

BEFORE_OPTION = re.compile(r":(?=[\w.-]+=)")
"""The colon of ``amortized:covariance=full``, but not that of ``package.module:Class``."""


class Grid(NamedTuple):
    """Options with their values, and options that all points share."""

    axes: dict[str, tuple[str, ...]]
    shared: dict[str, str]


def read_grid(words: Sequence[str], shared: Sequence[str]) -> Grid:
    """Read ``name=value,value`` and ``name=value``, or a file with the tables grid and with.

    Raises:
        UsageError: If something is malformed, missing or given twice.
    """
    written = [("--grid", word) for word in words] + [("--with", word) for word in shared]
    axes: dict[str, tuple[str, ...]] = {}
    common: dict[str, str] = {}
    for option, word in written:
        name, equals, value = word.partition("=")
        if option == "--grid" and not equals and Path(word).suffix in (".toml", ".json"):
            more = _from_file(Path(word))
            found, single = list(more.axes.items()), list(more.shared.items())
        elif not (name.strip() and equals and value.strip()):
            files = ", or a .toml or .json file" if option == "--grid" else ""
            raise UsageError(f"'{word}' in {option} must be NAME=VALUE{files}.")
        elif option == "--grid":
            values = tuple(part.strip() for part in BETWEEN_VALUES.split(value))
            found, single = [(_python(name), values)], []
        else:
            found, single = [], [(_python(name), value.strip())]
        for key, _ in (*found, *single):
            if key in axes or key in common:
                raise UsageError(f"'{key}' is given twice, in --grid or --with.")
        axes |= dict(found)
        common |= dict(single)
    _check(axes)
    return Grid(axes, common)


def _check(axes: dict[str, tuple[str, ...]]) -> None:
    if not axes:
        raise UsageError("the grid is empty: --grid NAME=VALUE,VALUE, as in --grid seed=0,1,2.")
    for name, values in axes.items():
        if not values or not all(values):
            raise UsageError(f"'{name}' in --grid has an empty value.")
        if len(set(values)) < len(values):
            twice = next(value for value in values if values.count(value) > 1)
            raise UsageError(f"'{name}' in --grid has the value {twice} twice.")


def _from_file(path: Path) -> Grid:
    with reading(path):
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    tables = {"with": {}, **content} if isinstance(content, dict) else {}
    if set(tables) != {"grid", "with"} or not all(isinstance(t, dict) for t in tables.values()):
        raise UsageError(f"{path} must have a table 'grid', and may have a table 'with'.")
    axes = {
        _python(name): tuple(
            _text(value) for value in (values if isinstance(values, list) else [values])
        )
        for name, values in tables["grid"].items()
    }
    return Grid(axes, {_python(name): _text(v) for name, v in tables["with"].items()})


def _python(name: str) -> str:
    return name.strip().removeprefix("--").replace("-", "_")


def _text(value: Any) -> str:
    """A value of a file as it would be written on the command line."""
    if isinstance(value, list):
        return f"({','.join(map(_text, value))})"
    return str(value).lower() if isinstance(value, bool) else str(value)


def points(grid: Grid) -> list[dict[str, str]]:
    """Every combination of the axes' values, the last axis varying fastest."""
    combinations = itertools.product(*grid.axes.values())
    return [dict(zip(grid.axes, values, strict=True)) for values in combinations]


def name_of(point: Mapping[str, str]) -> str:
    """The directory of a point: sorted by option name, with the seed last."""
    order = sorted(point, key=lambda name: (name == "seed", name))
    name = "+".join(f"{axis}={_in_a_path(point[axis])}" for axis in order)
    if len(name) <= 150:
        return name
    return f"{name[:140]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _in_a_path(value: str) -> str:
    sizes = re.fullmatch(r"\(([\d,\s]+)\)", value)
    if sizes:
        return "x".join(re.findall(r"\d+", value))
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", value).strip("-.")


def arguments(settings: Mapping[str, str], positional: Sequence[str] = ()) -> list[str]:
    """A command line with these options.

    Args:
        settings: values by the options' names; a guide's or model's value may carry options.
        positional: names of the command's arguments without dashes, in order.

    Raises:
        UsageError: If an option is set twice.
    """
    given: dict[str, str] = {}
    for name, value in settings.items():
        several = name in ("guide", "model")
        head, *rest = BEFORE_OPTION.split(value) if several else [value]
        options = (part.partition("=") for part in rest)
        for key, text in ((name, head), *((f"{name}.{_python(k)}", v) for k, _, v in options)):
            if key in given:
                raise UsageError(f"'{key}' is set twice, as {given[key]} and {text}.")
            given[key] = text
    words = [given.pop(name) for name in positional if name in given]
    for name, text in given.items():
        words += _option(name.replace("_", "-"), text)
    return words


def _option(name: str, text: str) -> list[str]:
    if text in ("true", "false"):  # --flip, --no-flip; --guide.attention, --guide.no-attention
        kind, dot, last = name.rpartition(".")
        return [f"--{name}" if text == "true" else f"--{kind}{dot}no-{last}"]
    if text.startswith("(") and text.endswith(")"):
        return [f"--{name}", *(part.strip() for part in text[1:-1].split(",") if part.strip())]
    return [f"--{name}={text}"]
