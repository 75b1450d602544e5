"""Options as words of a command line. Nothing here imports torch."""

import dataclasses
from typing import Any

import tyro

from experiments.options.ranges import option_name


def words_of(config: Any) -> list[str]:
    """The words that a command reads as these options: those that are not at their defaults."""
    usual, places, named = _usual(config), list[str](), list[str]()
    for option in dataclasses.fields(config):
        value = getattr(config, option.name)
        if tyro.conf.Positional in getattr(option.type, "__metadata__", ()):
            places += [] if value is None else [str(value)]
        else:
            named += _words(option.name, value, usual[option.name])
    return [*places, *named]


def _usual(config: Any) -> dict[str, Any]:
    """The defaults of a command, some of which depend on its preset or its data."""
    usual: dict[str, Any] = {}
    for option in dataclasses.fields(config):
        make = option.default_factory
        usual[option.name] = option.default if make is dataclasses.MISSING else make()
    usual |= getattr(config, "PRESETS", {}).get(getattr(config, "preset", None), {})
    return usual | getattr(config, "OF_DATA", {}).get(getattr(config, "data", None), {})


def _words(name: str, value: Any, usual: Any) -> list[str]:
    if isinstance(value, dict):  # options of a model or guide
        kind = name.removesuffix("_options")
        parts = (_words(f"{kind}.{key}", one, usual.get(key, ...)) for key, one in value.items())
        return [word for words in parts for word in words]
    if type(value) is type(usual) and value == usual:  # arrays compare entry by entry
        return []
    option = option_name(name)
    if isinstance(value, bool):  # --flip, --no-flip; --guide.attention, --guide.no-attention
        kind, dot, last = option[2:].rpartition(".")
        return [option if value else f"--{kind}{dot}no-{last}"]
    return [option, *map(str, value if isinstance(value, (tuple, list)) else [value])]
