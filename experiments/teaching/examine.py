"""How an answer is checked: its value, its gradient, and then what may have gone wrong."""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from experiments.teaching.answers import asked, called, derivatives, parts
from experiments.teaching.diagnosis import (
    CASES,
    also,
    explain,
    from_outside,
    is_right,
    known,
    nearer,
    right_on,
)
from experiments.teaching.differences import Look
from experiments.teaching.rubric import ONE_IMAGE, Task, Wrong, said, same, seeded


def examine(task: Task, answer: Callable[..., Any]) -> None:
    """Check an answer on random inputs.

    Raises:
        Wrong: With a hint, if it is wrong.
        NotImplementedError: If it is still to be written.
    """
    with seeded():
        cases = [task.cases() for _ in range(3)]
    try:
        found = [called(task, answer, case) for case in cases]
    except Wrong as error:
        with torch.no_grad():
            explain_failure(task, answer, cases, error)
        raise
    for right in task.right:
        if is_right(task, found, [parts(task, right(*case)) for case in cases]):
            nearer(task, found, cases)
            check_one_image(task, answer, right, cases[0])
            if task.trained:
                check_gradients(task, answer, right, cases)
            words = f"on {len(cases)} random inputs"
            said(task.name, words + ", gradient too" * bool(task.trained))
            return
    again = [called(task, answer, case, seed=2) for case in cases]
    if not is_right(task, found, again):
        raise Wrong(
            "it draws random numbers of its own, so every call gives another result: use the "
            "arguments alone."
        )
    with torch.no_grad():
        explain(task, answer)


def check_one_image(
    task: Task, answer: Callable[..., Any], right: Callable[..., Any], case: tuple
) -> None:
    """See that what is right for several images is right for one."""
    for single in (probe.change(*case) for probe in task.probes if probe.where == ONE_IMAGE):
        found, wanted = called(task, answer, single), parts(task, right(*single))
        if not is_right(task, [found], [wanted]):
            a, b = list(found[0].shape), list(wanted[0].shape)
            words = f", where its shape is {a}, expected was {b} (squeeze?)" if a != b else ""
            raise Wrong(f"it is right for several images and not for a single one{words}.")


def check_gradients(
    task: Task, answer: Callable[..., Any], right: Callable[..., Any], cases: list[tuple]
) -> None:
    """See that what is right can be trained through.

    Raises:
        Wrong: If no gradient, or another one, reaches an argument.
    """
    for case in cases:
        found = gradients(task, answer, case)
        if found is None:
            raise Wrong(
                "the value is right, but it is cut off from its arguments: no gradient flows. "
                "Look for .item(), .detach(), .data, float(), NumPy, torch.tensor(...) or "
                "no_grad()."
            )
        wanted = gradients(task, right, case) or []
        for a, b in zip(found, wanted, strict=True):
            if b is not None and (a is None or not same(a, b, 5e-4)):
                raise Wrong(
                    "the value is right, its gradient is not: a part of it is cut off (.item(), "
                    ".detach(), .data, or a draw instead of a function of the noise)."
                )


def gradients(task: Task, function: Callable[..., Any], case: tuple) -> list | None:
    """The gradient of the sum of all entries in every trained argument."""
    inputs = [
        x.clone().requires_grad_(i in task.trained) if isinstance(x, Tensor) else x
        for i, x in enumerate(case)
    ]
    try:
        with seeded():
            value = asked(task.name, function, *inputs)
    except Wrong as error:
        if "numpy()" in str(error):  # which torch refuses where a gradient is wanted
            return None
        raise
    values = value if isinstance(value, (tuple, list)) else (value,)
    if not all(isinstance(part, Tensor) and part.requires_grad for part in values):
        return None
    total = sum(part.sum() for part in values)
    return derivatives(total, [inputs[i] for i in task.trained])


def explain_failure(
    task: Task, answer: Callable[..., Any], cases: list[tuple], error: Wrong
) -> None:
    """Where a function fails for a reason that can be told, tell it.

    Raises:
        Wrong: If it would be right with sizes from its arguments, with one of them transposed, or
            on some of the inputs; or if it makes a known mistake on those where it does not fail.
    """
    if words := from_outside(task, answer, cases):
        raise Wrong(words) from error
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
    """Name a known mistake that fails on some inputs only, such as a log variance as scale."""
    with seeded(3):
        cases = [task.cases() for _ in range(CASES)]
    found, kept = [], []
    for case in cases:
        with contextlib.suppress(Wrong):
            found.append(called(task, answer, case))
            kept.append(case)
    if len(kept) < 2:
        return
    right = [parts(task, task.right[0](*case)) for case in kept]
    for number in range(len(task.parts)):
        got, wanted = ([value[number] for value in values] for values in (found, right))
        if words := known(Look(task, answer, number, kept, got, wanted)):
            raise Wrong(words) from error
