"""How an answer is checked: its value, its gradient, and then what may have gone wrong."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from experiments.teaching.answers import asked, called, derivatives, parts
from experiments.teaching.diagnosis import explain, explain_failure, is_right, nearer
from experiments.teaching.rubric import ONE_IMAGE, Task, Wrong, said, same
from ppl_models.random_numbers import seeded


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
            raise Wrong(explain_failure(task, answer, cases, error)) from error
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
        raise Wrong(explain(task, answer))


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
    """Check that gradients flow through a right answer."""
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
                if a is not None and not a.isfinite().all():
                    raise Wrong(
                        "the value is right, but its gradient is NaN or infinite: a root or log "
                        "of 0 on the way, or 0 times something infinite?"
                    )
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
