"""How an answer is checked: against the right value, then against known mistakes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from experiments.teaching.checking import Task, Wrong, agrees, asked, parts, said, same, seeded

__all__ = ["examine"]


def examine(task: Task, answer: Callable[..., Any], repeats: int = 3) -> None:
    """Check an answer on random inputs.

    Raises:
        Wrong: With a hint, if it is wrong.
        NotImplementedError: If it is still to be written.
    """
    with seeded():
        cases = [task.cases() for _ in range(repeats)]
    answers = [called(task, answer, case) for case in cases]
    found = [parts(task, value) for value in answers]
    for right in task.right:
        if agrees(found, [parts(task, right(*case)) for case in cases], task.tolerance):
            if task.trained:
                check_gradients(task, answer, right, cases)
            said(task.name, f"on {repeats} random inputs" + ", gradient too" * bool(task.trained))
            return
    again = [parts(task, called(task, answer, case, seed=2)) for case in cases]
    if not agrees(found, again):
        raise Wrong(
            f"check.{task.name}: it draws random numbers of its own, so every call gives another "
            "result: use the arguments alone."
        )
    with torch.no_grad():
        explain(task, found, cases)


def called(task: Task, answer: Callable[..., Any], case: tuple, seed: int = 1) -> Any:
    """The answer to one case."""
    with seeded(seed), torch.no_grad():
        return asked(task.name, answer, *(x.clone() if isinstance(x, Tensor) else x for x in case))


def explain(task: Task, found: list[list[Tensor]], cases: list[tuple]) -> None:
    """Say which mistake it is, or at least by how much it is off.

    Raises:
        Wrong: Always.
    """
    right = [parts(task, task.right[0](*case)) for case in cases]
    for number, name in enumerate(task.parts):
        got, wanted = (of_part(values, number) for values in (found, right))
        if agrees(got, wanted, task.tolerance):
            continue
        for mistake in task.mistakes:
            try:
                wrong = [parts(task, mistake.formula(*case)) for case in cases]
            except Exception:  # a formula that fits no such shapes
                continue
            if agrees(got, of_part(wrong, number), task.tolerance):
                raise Wrong(f"check.{task.name}: {mistake.hint}")
        raise Wrong(f"check.{task.name}: {name} is wrong. {general(got, wanted, task.shape)}")
    raise Wrong(f"check.{task.name}: each part is right for itself, but they do not fit together.")


def of_part(values: list[list[Tensor]], number: int) -> list[list[Tensor]]:
    """One part of all answers."""
    return [[value[number]] for value in values]


def general(found: list[list[Tensor]], right: list[list[Tensor]], shape: str) -> str:
    """By how much answers are off, without saying what is right."""
    (a,), (b,) = found[0], right[0]
    if a.shape != b.shape:
        words = f" ({shape})" if shape else ""
        return f"Its shape is {list(a.shape)}, expected was {list(b.shape)}{words}."
    if not all(x.isfinite().all() for (x,) in found):
        return (
            "It holds NaN or infinite values: the logarithm of zero or of a negative number, or "
            "an exponential of something large?"
        )
    a, b = (torch.cat([x.flatten() for (x,) in xs]).double() for xs in (found, right))
    ratio, difference = a / b, a - b
    if same(-a, b):
        return "Its sign is the wrong one, and nothing else."
    if (ratio - ratio.mean()).abs().max() < 1e-3 * ratio.mean().abs():
        return f"It is {ratio.mean():.3g} times what it should be, on every input: which factor?"
    if (difference - difference.mean()).abs().max() < 1e-3 * difference.mean().abs():
        return "It is off by the same constant on every input: which term has no x and no W in it?"
    return (
        f"It is off by {difference.abs().mean():.3g} on average where the right values are about "
        f"{b.abs().mean():.3g}. Is every size taken from the arguments, and no variable from "
        "outside the function?"
    )


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
                f"check.{task.name}: the value is right, but it is cut off from its arguments: no "
                "gradient flows. Look for .item(), .detach(), .data, float(), NumPy, "
                "torch.tensor(...) or no_grad()."
            )
        wanted = gradients(task, right, case) or []
        for a, b in zip(found, wanted, strict=True):
            if b is not None and (a is None or not same(a, b)):
                raise Wrong(
                    f"check.{task.name}: the value is right, its gradient is not: a part of it is "
                    "cut off (.item(), .detach(), .data, or a draw instead of a function of "
                    "the noise)."
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
    values = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(part, Tensor) and part.requires_grad for part in values):
        return None
    total = sum(part.sum() for part in values)
    trained = [inputs[i] for i in task.trained]
    return list(torch.autograd.grad(total, trained, allow_unused=True))
