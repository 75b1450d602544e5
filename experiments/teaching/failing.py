"""What is said of a function that raises an error."""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from experiments.teaching.asking import called, parts
from experiments.teaching.checking import Task, Wrong, seeded
from experiments.teaching.comparing import Look
from experiments.teaching.explaining import (
    CASES,
    also,
    borrowed_words,
    known,
    right_on,
    viewed,
)
from experiments.teaching.outside import repaired


def explain_failure(
    task: Task, answer: Callable[..., Any], cases: list[tuple], error: Wrong
) -> None:
    """Where a function fails for a reason that can be told, tell it.

    Raises:
        Wrong: If it would be right with sizes from its arguments, with one of them transposed, or
            on some of the inputs; or if it makes a known mistake on those where it does not fail.
    """
    for things, function in repaired(answer, cases[0]):
        if right_on(task, function, cases):
            raise Wrong(borrowed_words(things)) from error
    for name, function in transposed(answer, cases[0]):
        if right_on(task, function, cases):
            raise Wrong(
                f"it would be right if `{name}` were transposed: a transpose of it (or of what it "
                "is multiplied with) is too many or too few."
            ) from error
    for probe in task.probes:
        if right_on(task, answer, [probe.change(*case) for case in cases]):
            raise Wrong(
                f"{error} It is right where {probe.where}: look at {probe.look}."
            ) from error
    _explain_where_it_works(task, answer, error)
    if words := also(answer):
        raise Wrong(f"{error}{words}") from error


def transposed(
    answer: Callable[..., Any], case: tuple
) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The function with one of its matrices transposed before the call."""
    try:
        names = list(inspect.signature(answer).parameters)
    except (TypeError, ValueError):
        return
    for i, (name, x) in enumerate(zip(names, case, strict=False)):
        if isinstance(x, Tensor) and x.ndim == 2:
            yield name, lambda *a, i=i: answer(*a[:i], a[i].mT, *a[i + 1 :])


def _explain_where_it_works(task: Task, answer: Callable[..., Any], error: Wrong) -> None:
    """Name the mistake of a function that fails on some inputs, as a logarithm used as scale does.

    Raises:
        Wrong: If it makes a known mistake.
    """
    with seeded(3):
        cases = [task.cases() for _ in range(CASES)]
    found, kept = [], []
    for case in cases:
        with contextlib.suppress(Wrong):
            found.append(parts(task, called(task, answer, case)))
            kept.append(case)
    if len(kept) < 2:
        return
    right = [parts(task, task.right[0](*case)) for case in kept]
    for number in range(len(task.parts)):
        got, wanted = (viewed(task, values, number) for values in (found, right))
        if words := known(Look(task, answer, number, kept, got, wanted)):
            raise Wrong(words) from error
