"""Options by group, as ``--help`` lists them."""

import dataclasses
import functools
import inspect
from collections.abc import Sequence
from typing import Annotated, Any, get_type_hints

import tyro
from docstring_parser.attrdoc import AttributeDocstrings

from experiments.options.data import RARE

ORDER = ["command", "data", "model", "guide and objective", "optimization", "recipe", "run"]
"""The groups, as ``--help`` lists them."""


def grouped(config_class: type, chosen: Sequence[str], everything: bool) -> type:
    """A dataclass with one field per group of options, each a dataclass of the group's options.

    A field belongs to the group of the first class that declared it and has a group; the options
    of the chosen model and of the chosen guide form two further groups. Options marked ``RARE``
    are left out unless ``everything`` is true.
    """
    hints = get_type_hints(config_class, include_extras=True)
    groups: dict[str, list[Any]] = {}
    for field in dataclasses.fields(config_class):
        hint: Any = Annotated[hints[field.name], *marks_of(config_class, field)]
        if not everything and RARE in getattr(hint, "__metadata__", ()):
            hint = Annotated[hint, tyro.conf.Suppress]
        own: Any = dataclasses.field(
            default=field.default, default_factory=field.default_factory, kw_only=True
        )
        if field.name not in chosen:
            group = groups.setdefault(group_of(config_class, field.name), [])
            group.append((field.name, hint, own))
    fields: list[Any] = [(name, hints[name]) for name in chosen]
    for title in sorted(groups, key=ORDER.index):
        one: Any = dataclasses.make_dataclass("Options", groups[title], frozen=True)
        one.__doc__ = ""
        marks = tyro.conf.arg(name=title), tyro.conf.OmitArgPrefixes
        fields.append((f"group_{len(fields)}", Annotated[one, *marks]))
    return dataclasses.make_dataclass("Groups", fields, frozen=True)


def marks_of(config_class: type, field: dataclasses.Field) -> list[Any]:
    """The help text of a field: the string below it, in the nearest class that has one."""
    texts = (_texts(one).get(field.name) for one in config_class.__mro__)
    marks = [tyro.conf.arg(help=next((text for text in texts if text), None))]
    if field.default is None:  # the help text says what the default is
        marks.append(tyro.conf.arg(help_behavior_hint=""))
    return marks


@functools.cache
def _texts(config_class: type) -> dict[str, str]:
    """The strings below the fields of a dataclass, by name."""
    try:
        found = AttributeDocstrings().get_attr_docs(config_class)
    except TypeError:  # a class without source code
        return {}
    return {name: " ".join(text.split()) for name, (text, *_) in found.items()}


def group_of(config_class: type, name: str) -> str:
    own = [one for one in reversed(config_class.__mro__) if name in inspect.get_annotations(one)]
    return next((one.__dict__["group"] for one in own if "group" in one.__dict__), "command")
