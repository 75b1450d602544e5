"""What a self-check is made of: tasks, known mistakes, and what is said of an answer."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = [
    "RESULTS",
    "Mistake",
    "Result",
    "Task",
    "Unwritten",
    "Wrong",
    "agrees",
    "asked",
    "parts",
    "recorded",
    "said",
    "same",
    "seeded",
]

TOLERANCE = 5e-4
"""Of the largest entry: above the rounding of float32, far below any mistake."""


class Wrong(AssertionError):
    """What a self-check found. A notebook shows its words alone, and stops there."""

    def _render_traceback_(self) -> list[str]:
        return [f"Not yet. {self}"]


class Unwritten(NotImplementedError):
    """A stub that is still a stub. A notebook shows its words alone, and stops there."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


class Result(NamedTuple):
    """What one call of a check found.

    Args:
        check: name of the check, as in ``check.kl``.
        passed: whether the answer is right.
        hint: what the student was told; empty if the answer is right.
    """

    check: str
    passed: bool
    hint: str


RESULTS: list[Result] = []
"""The results of all checks of this process, in the order of their calls."""


def recorded(check: Callable[..., None]) -> Callable[..., None]:
    """The check, with its result appended to ``RESULTS``."""

    @wraps(check)
    def checked(*arguments: Any, **options: Any) -> None:
        try:
            check(*arguments, **options)
        except Exception as error:
            RESULTS.append(Result(check.__name__, False, str(error)))
            raise
        RESULTS.append(Result(check.__name__, True, ""))

    return checked


class Mistake(NamedTuple):
    """A wrong formula, called like the answer, and the hint for whoever wrote it."""

    formula: Callable[..., Any]
    hint: str


class Task(NamedTuple):
    """What is right, and what often is not.

    Args:
        name: of the check.
        right: formulas, any of which is right.
        cases: draws the arguments of one call.
        mistakes: looked at in order, once the answer is known to be wrong.
        trained: positions of the arguments that the answer must have a gradient in.
        parts: names of what is returned, if it is a tuple.
        shape: what is expected, in words.
        tolerance: of the largest entry that is right.
    """

    name: str
    right: Sequence[Callable[..., Any]]
    cases: Callable[[], tuple]
    mistakes: Sequence[Mistake]
    trained: tuple[int, ...] = ()
    parts: tuple[str, ...] = ("the value",)
    shape: str = ""
    tolerance: float = TOLERANCE


@contextmanager
def seeded(seed: int = 1) -> Iterator[None]:
    """Inside, draws come from a seed; afterwards the random state is what it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def said(name: str, words: str) -> None:
    """The line that tells of success."""
    print(f"check.{name}: right ({words}).")


def asked(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function gives; whatever it raises is said in words.

    Raises:
        Wrong: In place of any other error.
        Unwritten: If the function is a stub.
    """
    try:
        return function(*arguments)
    except NotImplementedError as error:
        raise Unwritten(str(error)) from None
    except Exception as error:
        shapes = ", ".join(described(x) for x in arguments) or "no arguments"
        words = str(error).strip().split("\n")[0]
        raise Wrong(
            f"check.{name} called the function with {shapes}, and it raised "
            f"{type(error).__name__}: {words}. (Sizes that do not fit, a transpose too many or "
            "too few? A size taken from outside the function?)"
        ) from error


def described(x: Any) -> str:
    """An argument in words: its shape, if it has one."""
    return str(list(x.shape)) if isinstance(x, Tensor) else f"{x!r}"[:40].split("(")[0]


def parts(task: Task, value: Any) -> list[Tensor]:
    """What was returned as tensors, one per part.

    Raises:
        Wrong: If it is something else.
    """
    values = value if isinstance(value, tuple) else (value,)
    if len(values) != len(task.parts) or any(item is None for item in values):
        what = "nothing" if value is None else f"{len(values)} value(s)"
        raise Wrong(
            f"check.{task.name} expects {len(task.parts)} value(s), {', '.join(task.parts)}, and "
            f"got {what}. Is the `return` missing?"
        )
    try:
        return [torch.as_tensor(item).detach() for item in values]
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(values[0]).__name__
        raise Wrong(f"check.{task.name} expects tensors and got a {kind}.") from error


def agrees(
    found: list[list[Tensor]], right: list[list[Tensor]], tolerance: float = TOLERANCE
) -> bool:
    """Whether all parts of all answers are the same, NaN for NaN."""
    return all(
        same(a, b, tolerance)
        for one, other in zip(found, right, strict=True)
        for a, b in zip(one, other, strict=True)
    )


def same(a: Tensor, b: Tensor, tolerance: float = TOLERANCE) -> bool:
    """Whether two tensors are equal but for rounding."""
    if a.shape != b.shape:
        return False
    a, b = a.to(b.dtype), b.detach()
    finite = b.isfinite()
    scale = float(b[finite].abs().max()) if finite.any() else 1.0
    return torch.allclose(a, b, rtol=0, atol=tolerance * scale + 1e-7, equal_nan=True)
