"""What is said of a wrong answer: a known mistake, or where it is right and where it is not."""

import contextlib
import inspect
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from experiments.teaching.answers import called, parts
from experiments.teaching.differences import Look, difference
from experiments.teaching.free_variables import Borrowed, borrowed, repaired
from experiments.teaching.rubric import Mistake, Task, Wrong, same
from ppl_models.random_numbers import seeded

CASES = 12
"""Inputs that a wrong answer is looked at with: enough to tell a factor from a coincidence."""


def is_right(
    task: Task, found: list[list[Tensor]], right: list[list[Tensor]], number: int | None = None
) -> bool:
    """Whether all parts of all answers are right, or one part of them."""
    return all(
        same(task.viewed(i, a[i]), task.viewed(i, b[i]), task.tolerance)
        for i in (range(len(task.parts)) if number is None else [number])
        for a, b in zip(found, right, strict=True)
    )


def right_on(
    task: Task, function: Callable[..., Any], cases: list[tuple], number: int | None = None
) -> bool:
    """Whether what a function returns is right, or one part of it; not, if it fails."""
    try:
        for case in cases:
            right, found = parts(task, task.right[0](*case)), called(task, function, case)
            if not is_right(task, [found], [right], number):
                return False
    except (Wrong, NotImplementedError):
        return False
    return True


def nearer(task: Task, found: list[list[Tensor]], cases: list[tuple]) -> None:
    """See that no mistake too small for the tolerance explains an answer better."""

    def distance(formula: Callable[..., Any]) -> float:
        pairs = [(value[0], formula(*case)) for value, case in zip(found, cases, strict=True)]
        if any(a.shape != b.shape for a, b in pairs):
            return math.inf
        return max(float((a - b).double().abs().max() / b.abs().max()) for a, b in pairs)

    for mistake in task.near:
        if 10 * distance(mistake.formula) < min(1e-4, *map(distance, task.right)):
            raise Wrong(mistake.hint)


def explain(task: Task, answer: Callable[..., Any]) -> str:
    """Which mistake it is, or where the answer is right and where it is not."""
    with seeded(3):
        cases = [task.cases() for _ in range(CASES)]
    found = [called(task, answer, case) for case in cases]
    right = [parts(task, task.right[0](*case)) for case in cases]
    nearer(task, found, cases)
    if len(task.parts) > 1 and is_right(task, [value[::-1] for value in found], right):
        order = " first, then ".join(task.parts)
        return f"the order of what is returned is wrong: {order}."
    for number, name in enumerate(task.parts):
        if is_right(task, found, right, number):
            continue
        hint = known(task, number, cases, found)
        if words := hint or from_outside(task, answer, cases[:3], number):
            return words
        got, wanted = ([value[number] for value in values] for values in (found, right))
        look = Look(task, answer, number, cases, got, wanted)
        words = difference(look) or probed(look)
        return f"{name} is wrong. {words}{also(answer)}"
    return "each part is right on its own, but they do not fit together."


def explain_failure(
    task: Task, answer: Callable[..., Any], cases: list[tuple], error: Wrong
) -> str:
    """Why a function fails, if that is found, else its error.

    It may be right with sizes from its arguments, with one of them transposed, or on some of the
    inputs, or make a known mistake on those where it does not fail.
    """
    if words := from_outside(task, answer, cases):
        return words
    for name, function in transposed(answer, cases[0]):
        if right_on(task, function, cases):
            return (
                f"it would be right if `{name}` were transposed: a transpose of it (or of what it "
                "is multiplied with) is too many or too few."
            )
    for probe in task.probes:
        if right_on(task, answer, [probe.change(*case) for case in cases]):
            return f"{error} It is right where {probe.where}: look at {probe.look}."
    return known_where_it_works(task, answer) or f"{error}{also(answer)}"


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


def known_where_it_works(task: Task, answer: Callable[..., Any]) -> str:
    """The hint of a mistake that fails on some inputs only, such as a log variance as scale."""
    found, cases = [], []
    with seeded(3):
        drawn = [task.cases() for _ in range(CASES)]
    for case in drawn:
        with contextlib.suppress(Wrong):
            found.append(called(task, answer, case))
            cases.append(case)
    if len(cases) < 2:
        return ""
    hints = (known(task, number, cases, found) for number in range(len(task.parts)))
    return next(filter(None, hints), "")


def known(task: Task, number: int, cases: list[tuple], found: list[list[Tensor]]) -> str:
    """The hint of the mistake that gives what was found as one part; none if all is NaN."""
    values = [task.viewed(number, value[number]) for value in found]
    if all(value.isnan().all() for value in values):
        return ""
    for mistake in task.mistakes:
        if mistake.part == number and agrees_with(mistake, task, cases, values):
            return mistake.hint
    return ""


def agrees_with(mistake: Mistake, task: Task, cases: list[tuple], values: list[Tensor]) -> bool:
    """Whether a mistake gives what was found."""
    for case, found in zip(cases, values, strict=True):
        try:
            value = task.viewed(mistake.part, torch.as_tensor(mistake.formula(*case)))
        except (RuntimeError, IndexError, ValueError):  # it fits no such sizes
            return False
        if not same(found, value, task.tolerance):
            return False
    return True


def from_outside(
    task: Task, answer: Callable[..., Any], cases: list[tuple], number: int | None = None
) -> str:
    """What to say of an answer that is right once sizes and tensors come from its arguments."""
    for things, function in repaired(answer, cases[0]):
        if right_on(task, function, cases, number):
            return borrowed_words(things)
    return ""


def borrowed_words(things: list[Borrowed]) -> str:
    """What to say of sizes and tensors whose origin is the mistake."""
    names = " and ".join(thing.words for thing in things)
    verb, do, it = ("are", "do", "them") if len(things) > 1 else ("is", "does", "it")
    origin, advice = "written into", "take the size from an argument's .shape"
    if any(thing.name for thing in things):
        origin = "taken from outside"
        advice = f"take {it} from the arguments (a size from their .shape)"
    return (
        f"{names} {verb} {origin} the function, and {do} not fit other inputs than the "
        f"notebook's: {advice}."
    )


def also(answer: Callable[..., Any]) -> str:
    """Which numbers and tensors it takes from outside, whether or not that is the mistake."""
    names = [thing.words for thing in borrowed(answer) if thing.name]
    return f" It also uses {', '.join(names)} from outside the function." if names else ""


def probed(look: Look) -> str:
    """Where the answer is right, found by arguments at which parts of it have no effect."""
    probes = look.task.probes
    for count in (1, 2):
        for chosen in itertools.combinations(probes, count):
            cases = look.cases[:4]
            for probe in chosen:
                cases = [probe.change(*case) for case in cases]
            if right_on(look.task, look.answer, cases, look.number):
                where = " and ".join(probe.where for probe in chosen)
                what = " and ".join(probe.look for probe in chosen)
                return f"It is right where {where}, and wrong elsewhere: look at {what}."
    a, b = (
        torch.cat([look.task.viewed(look.number, x).flatten() for x in values]).double()
        for values in (look.found, look.right)
    )
    agreeing = (a - b).abs() <= look.task.tolerance * b.abs().max()
    words = f"It is off by {(a - b).abs().mean():.3g} on average, on values of about "
    words += f"{b.abs().mean():.3g}"
    if agreeing.any():
        words += f"; {int(agreeing.sum())} of {len(b)} entries are right"
    where = " or ".join(probe.where for probe in probes)
    return words + (f". It is wrong also where {where}." if probes else ".")
