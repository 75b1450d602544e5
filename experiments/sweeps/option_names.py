"""The names of a command's options, for generating command lines."""

import dataclasses
from collections.abc import Sequence
from typing import Any, get_args, get_type_hints

import tyro

from experiments.options.parsing import extended

__all__ = ["option_names", "positional_names"]


def option_names(config_class: type, args: Sequence[str]) -> list[str]:
    """All options of a command, including those of the guide and model chosen in ``args``."""
    with_options, added = extended(config_class, args)
    hints = get_type_hints(with_options, include_extras=True)
    names = [
        f.name
        for f in dataclasses.fields(config_class)
        if f.name not in added and tyro.conf.Suppress not in _markers(hints[f.name])
    ]
    for field in added:
        own = [f.name for f in dataclasses.fields(get_args(hints[field])[0])]
        kind = field.removesuffix("_options")
        names += [f"{kind}.{name}" for name in own]
        names += [name for name in own if kind == "model" and name not in names]
    return names


def positional_names(config_class: type) -> list[str]:
    """Arguments of a command that are given without a name, in order."""
    hints = get_type_hints(config_class, include_extras=True)
    fields = dataclasses.fields(config_class)
    return [f.name for f in fields if tyro.conf.Positional in _markers(hints[f.name])]


def _markers(hint: Any) -> tuple[Any, ...]:
    return getattr(hint, "__metadata__", ())
