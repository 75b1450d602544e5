"""Ranges of numeric options, declared on the fields themselves. Nothing here imports torch."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Annotated, Any, NamedTuple, get_args, get_type_hints

from experiments.errors import UsageError


class Range(NamedTuple):
    """Values that an option may have, and how a message says so: "must ..."."""

    contains: Callable[[float], bool]
    words: str


def at_least(least: float) -> Range:
    return Range(lambda value: value >= least, f"be at least {least}")


ZERO_OR_MORE = Range(lambda value: value >= 0, "be 0 or more")
FINITE = Range(math.isfinite, "be finite")
BELOW_2_63 = Range(lambda value: abs(value) < 2**63, "be below 2^63")
BELOW_2_32 = Range(lambda value: value < 2**32, "be below 2^32")

Count = Annotated[int, at_least(1)]
Several = Annotated[int, at_least(2)]
NotNegativeInt = Annotated[int, ZERO_OR_MORE]
Seed = Annotated[int, ZERO_OR_MORE, BELOW_2_32]
Positive = Annotated[float, Range(lambda value: value > 0, "be above 0")]
NotNegative = Annotated[float, ZERO_OR_MORE]
Fraction = Annotated[float, Range(lambda value: 0 <= value < 1, "lie in [0, 1)")]


def option_name(field: str) -> str:
    """A field as it is written on the command line."""
    return f"--{field.strip('_').replace('_', '-')}"


def numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Every number in an option's value, those of a model or guide among them, with its name."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from numbers(inner, f"{name.removesuffix('_options')}.{key}")
    elif isinstance(value, tuple):
        for inner in value:
            yield from numbers(inner, name)
    elif isinstance(value, (int, float)):
        yield name, value


def ranges_of(hint: Any) -> Iterator[Range]:
    """The ranges in a field's annotation, inside of unions and tuples too."""
    yield from (one for one in getattr(hint, "__metadata__", ()) if isinstance(one, Range))
    for inner in get_args(hint):
        yield from ranges_of(inner)


def check_ranges(config: Any) -> None:
    """Refuse numbers that are not finite or outside of their option's range."""
    hints = get_type_hints(type(config), include_extras=True)
    for field in dataclasses.fields(config):
        ranges = [*ranges_of(hints[field.name])]
        if ranges and getattr(config, field.name) == ():
            raise UsageError(f"{option_name(field.name)} needs at least one value.")
        for name, value in numbers(getattr(config, field.name), field.name):
            for one in (BELOW_2_63 if isinstance(value, int) else FINITE, *ranges):
                if not one.contains(value):
                    raise UsageError(f"{option_name(name)} must {one.words}, got {value}.")
