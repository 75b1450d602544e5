"""Options by group, as ``--help`` lists them."""

import ast
import dataclasses
import functools
import inspect
import itertools
import textwrap
from collections.abc import Sequence
from typing import Annotated, Any, get_type_hints

import tyro

from experiments.options.data import RARE

ORDER = ["command", "data", "model", "guide and objective", "optimization", "recipe", "run"]
"""The groups, as ``--help`` lists them."""


def grouped(config_class: type, chosen: Sequence[str], everything: bool) -> type:
    """A dataclass with one field per group of options, each a dataclass of the group's options.

    A field belongs to the group of the class that first declared it; the options of the chosen
    model and of the chosen guide form two further groups. Options marked ``RARE`` are left out
    unless ``everything`` is true.
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
    """The strings below the fields of a dataclass, by name; empty for a class without source
    code."""
    try:
        source = textwrap.dedent(inspect.getsource(config_class))
    except (OSError, TypeError):
        return {}
    (tree,) = ast.parse(source).body
    assert isinstance(tree, ast.ClassDef)
    texts = {}
    for pair in itertools.pairwise(tree.body):
        match pair:
            case ast.AnnAssign(ast.Name(name)), ast.Expr(ast.Constant(str(text))):
                texts[name] = " ".join(text.split())
    return texts


def group_of(config_class: type, name: str) -> str:
    for one in reversed(config_class.__mro__):
        if name in inspect.get_annotations(one):
            return one.__dict__.get("group", "command")
    return "command"
