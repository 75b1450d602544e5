"""A grid of options: its syntax, its points, and their command lines."""

import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from experiments.errors import UsageError

BETWEEN_VALUES = re.compile(r",(?![^(]*\))")
"""Commas outside brackets."""

BEFORE_OPTION = re.compile(r":(?=[\w.-]+=)")
"""The colon of ``amortized:covariance=full``, but not that of ``package.module:Class``."""


class Grid(NamedTuple):
    """Options with their values, and options that all points share."""

    axes: dict[str, tuple[str, ...]]
    shared: dict[str, str]


def read_grid(words: Sequence[str], shared: Sequence[str]) -> Grid:
    """Read ``name=value,value`` of ``--grid`` and ``name=value`` of ``--with``."""
    varied, common = _settings("--grid", words), _settings("--with", shared)
    names = [name for name, _ in (*varied, *common)]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"'{name}' is given twice, in --grid or --with.")
    if not varied:
        raise UsageError("the grid is empty: --grid NAME=VALUE,VALUE, as in --grid seed=0,1,2.")
    axes: dict[str, tuple[str, ...]] = {}
    for name, text in varied:
        values = axes[name] = tuple(part.strip() for part in BETWEEN_VALUES.split(text))
        if not all(values):
            raise UsageError(f"'{name}' in --grid has an empty value.")
        for value in values:
            if values.count(value) > 1:
                raise UsageError(f"'{name}' in --grid has the value {value} twice.")
    return Grid(axes, dict(common))


def _settings(option: str, words: Sequence[str]) -> list[tuple[str, str]]:
    """Names and values in the words of an option."""
    settings = []
    for word in words:
        name, _, value = word.partition("=")
        if not (name.strip() and value.strip()):
            raise UsageError(f"'{word}' in {option} must be NAME=VALUE.")
        settings.append((_python(name), value.strip()))
    return settings


def _python(name: str) -> str:
    return name.strip().removeprefix("--").replace("-", "_")


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
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", value.lstrip("(")).rstrip("-.")


def arguments(settings: Mapping[str, str], positional: Sequence[str] = ()) -> list[str]:
    """A command line with these options.

    Args:
        settings: values by the options' names; a guide's or model's value may carry options.
        positional: names of the command's arguments without dashes, in order.
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
