"""What is said of a wrong answer: a known mistake, or where it is right and where it is not."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from experiments.teaching.answers import called, parts
from experiments.teaching.differences import COMPARISONS, Look
from experiments.teaching.free_variables import Borrowed, borrowed, repaired
from experiments.teaching.rubric import Mistake, Task, Wrong, same, seeded

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

    def right(case: tuple) -> bool:
        wanted = parts(task, task.right[0](*case))
        return is_right(task, [called(task, function, case)], [wanted], number)

    try:
        return all(map(right, cases))
    except (Wrong, NotImplementedError):
        return False


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


def explain(task: Task, answer: Callable[..., Any]) -> None:
    """Say which mistake it is, or where the answer is right and where it is not.

    Raises:
        Wrong: Always.
    """
    with seeded(3):
        cases = [task.cases() for _ in range(CASES)]
    found = [called(task, answer, case) for case in cases]
    right = [parts(task, task.right[0](*case)) for case in cases]
    nearer(task, found, cases)
    if len(task.parts) > 1 and is_right(task, [value[::-1] for value in found], right):
        order = " first, then ".join(task.parts)
        raise Wrong(f"the order of what is returned is wrong: {order}.")
    for number, name in enumerate(task.parts):
        if is_right(task, found, right, number):
            continue
        got, wanted = ([value[number] for value in values] for values in (found, right))
        look = Look(task, answer, number, cases, got, wanted)
        if words := known(look) or from_outside(task, answer, cases[:3], number):
            raise Wrong(words)
        raise Wrong(f"{name} is wrong. {general(look)}")
    raise Wrong("each part is right for itself, but they do not fit together.")


def known(look: Look) -> str:
    """The hint of the mistake that gives what was found, if one does; NaN alone tells none."""
    if all(value.isnan().all() for value in look.found):
        return ""
    for mistake in look.task.mistakes:
        if mistake.part == look.number and agrees_with(mistake, look):
            return mistake.hint
    return ""


def agrees_with(mistake: Mistake, look: Look) -> bool:
    """Whether a mistake gives what was found."""
    for case, found in zip(look.cases, look.found, strict=True):
        try:
            value = look.task.viewed(look.number, torch.as_tensor(mistake.formula(*case)))
        except (RuntimeError, IndexError, ValueError):  # it fits no such sizes
            return False
        if not same(look.task.viewed(look.number, found), value, look.task.tolerance):
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


def general(look: Look) -> str:
    """How an answer differs from the right one, without saying what is right."""
    for comparison in COMPARISONS:
        if words := comparison(look):
            return words + also(look.answer)
    return probed(look) + also(look.answer)


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
