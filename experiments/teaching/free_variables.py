"""Numbers and tensors that a function takes from outside, and whether they are its mistake."""

import contextlib
import dis
import itertools
from collections.abc import Callable, Iterator
from types import CellType, CodeType, FunctionType
from typing import Any, NamedTuple

from torch import Tensor


class Borrowed(NamedTuple):
    """A variable that a function uses besides its arguments, or a number that is written into it.

    Args:
        words: how a hint calls it.
        name: of a variable, else None.
        value: what it is.
    """

    words: str
    name: str | None
    value: Any


def borrowed(function: Callable[..., Any]) -> list[Borrowed]:
    """The numbers and tensors that a function takes from outside, and those written into it."""
    if not isinstance(function, FunctionType):
        return []
    variables = {
        name: function.__globals__[name]
        for name in _globals(function.__code__)
        if name in function.__globals__
    }
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # an empty cell: not assigned yet
            variables[name] = cell.cell_contents
    found = [
        Borrowed(f"`{name}`", name, value) for name, value in variables.items() if _counts(value)
    ]
    written = {  # whole numbers that may be sizes
        x
        for x in function.__code__.co_consts
        if _counts(x) and 1 < x < 2**63 and float(x).is_integer()
    }
    return found + [Borrowed(f"the number {x:g}", None, x) for x in sorted(written)]


def _globals(code: CodeType) -> Iterator[str]:
    """Names of the global variables that a function and the functions in it read."""
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield step.argval
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from _globals(part)


def _counts(value: Any) -> bool:
    return isinstance(value, (int, float, Tensor)) and not isinstance(value, bool)


Role = tuple[int, int | None]
"""An argument's position, and which of its dimensions; None for the argument itself."""


def repaired(
    function: Callable[..., Any], case: tuple
) -> Iterator[tuple[list[Borrowed], Callable[..., Any]]]:
    """The function with one or two of the borrowed things taken from its arguments instead.

    Args:
        function: a student's.
        case: arguments of a call, for their kinds and numbers of dimensions.
    """
    found = borrowed(function)
    for count in (1, 2):  # more are too many combinations, and rare
        for things in itertools.combinations(found, count):
            for roles in itertools.product(*(_roles(thing, case) for thing in things)):
                yield list(things), _with(function, things, roles)


def _roles(thing: Borrowed, case: tuple) -> list[Role]:
    if isinstance(thing.value, Tensor):
        return [(i, None) for i, x in enumerate(case) if isinstance(x, Tensor)]
    sizes = [(i, d) for i, x in enumerate(case) if isinstance(x, Tensor) for d in range(x.ndim)]
    return sizes + [(i, None) for i, x in enumerate(case) if isinstance(x, int)]


def _with(
    function: Any, things: tuple[Borrowed, ...], roles: tuple[Role, ...]
) -> Callable[..., Any]:
    def changed(*case: Any) -> Any:
        values = [case[i] if d is None else case[i].shape[d] for i, d in roles]
        named = {t.name: v for t, v in zip(things, values, strict=True) if t.name}
        written = {t.value: v for t, v in zip(things, values, strict=True) if not t.name}
        code = function.__code__
        consts = tuple(written.get(x, x) if _counts(x) else x for x in code.co_consts)
        cells = tuple(
            CellType(named[name]) if name in named else cell
            for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True)
        )
        other = FunctionType(
            code.replace(co_consts=consts),
            {**function.__globals__, **named},
            function.__name__,
            function.__defaults__,
            cells,
        )
        return other(*case)

    return changed
