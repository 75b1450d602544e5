"""The names that functions read outside of themselves, and what lies there now."""

import dis
import functools
import inspect
import sys
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any, TypeAlias

from ppl_models.coordinates import OURS

Read: TypeAlias = tuple[Mapping[str, Any], tuple[str, ...]]
"""Where a name is looked up, and the name with the attributes that are taken of what it names."""

BUILT_IN = (FunctionType, GetSetDescriptorType, MemberDescriptorType)
"""Kinds of attributes that run no code of a user's when they are looked up."""


def value_at(where: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """What lies there now; None if nothing does."""
    value = where.get(path[0])
    try:
        for name in path[1:]:
            value = getattr(value, name)
    except Exception:  # a cell that is not filled yet, an attribute that is gone
        return None
    return value


def steps_to(where: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[Read, Any]]:
    """What lies on the way to an attribute, as far as looking it up has no side effect."""
    for end in range(1, len(path) + 1):
        value = value_at(where, path[:end])
        yield (where, path[:end]), value
        if end < len(path) and not is_stored(value, path[end]):
            return


def is_stored(value: Any, name: str) -> bool:
    """Whether an attribute is held by a user's object, class or file; no property, which may act.

    Those of installed packages do not change.
    """
    if isinstance(value, ModuleType | type) and not is_users(value):
        return False
    held = inspect.getattr_static(value, name, property())
    return isinstance(held, BUILT_IN) or not hasattr(type(held), "__get__")


def reads_of(function: FunctionType) -> Iterator[Read]:
    """What a function reads of its file and of functions around it, and its defaults."""
    code = function.__code__
    cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
    for name, *more in names_in(code):
        if name in cells:
            yield {name: cells[name]}, (name, "cell_contents", *more)
        elif name in function.__globals__:
            yield function.__globals__, (name, *more)
    for told in filter(None, (function.__defaults__, function.__kwdefaults__)):
        yield {"": told}, ("",)


@functools.cache
def names_in(code: CodeType) -> tuple[tuple[str, ...], ...]:
    """Names that a function and those inside it read outside, each with attributes: ``a.b.c``."""
    found, follows = list[tuple[str, ...]](), False
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_DEREF"):
            found.append((step.argval,))
            follows = True
        elif follows and step.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            found[-1] = (*found[-1], step.argval)
        elif step.opname != "EXTENDED_ARG":
            follows = False
    inner = [one for one in code.co_consts if isinstance(one, CodeType)]
    return tuple(dict.fromkeys([*found, *(path for one in inner for path in names_in(one))]))


def function_in(value: Any) -> FunctionType | None:
    """The function that a class's attribute is, or that lies in a property or a class method."""
    inside = getattr(value, "fget", None) or getattr(value, "__func__", value)
    return inside if isinstance(inside, FunctionType) else None


def contents_of(cell: Any) -> Any:
    """What a function found in an outer one; nothing where that is not set yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def is_users(thing: Any) -> bool:
    """Whether a file, class or function is a user's own: of no installed package."""
    name = thing.__name__ if isinstance(thing, ModuleType) else thing.__module__
    return not _is_installed(str(name).partition(".")[0])


@functools.cache
def _is_installed(package: str) -> bool:
    file = getattr(sys.modules.get(package), "__file__", None) or ""
    known = package in OURS or package in sys.stdlib_module_names
    return known or "site-packages" in file or "dist-packages" in file
