"""How a wrong value differs from the right one: a shape, a constant, a factor, a summand."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from experiments.teaching.rubric import Task, same

CLOSE = 1e-3
"""Relative accuracy with which a constant or a factor is recognised."""


class Look(NamedTuple):
    """One wrong part of an answer: what was found and what is right, input by input."""

    task: Task
    answer: Callable[..., Any]
    number: int
    cases: list[tuple]
    found: list[Tensor]
    right: list[Tensor]


def by_shape(look: Look) -> str:
    """What a shape says that is not the right one."""
    pairs = list(zip(look.found, look.right, strict=True))
    if all(a.shape == b.shape for a, b in pairs):
        return ""
    a, b = next((a, b) for a, b in pairs if a.shape != b.shape)
    words = f" ({look.task.shape})" if look.task.shape else ""
    shapes = f"its shape is {list(a.shape)}, expected was {list(b.shape)}{words}."
    for change, cause in SHAPES:
        if all(_fits(change, a, b) for a, b in pairs):
            return f"{cause}: {shapes}"
    return shapes[0].upper() + shapes[1:]


def _fits(change: Callable[[Tensor, Tensor], bool], a: Tensor, b: Tensor) -> bool:
    try:
        return change(a, b)
    except (RuntimeError, IndexError):  # no such axis, or sizes that do not fit
        return False


SHAPES: tuple[tuple[Callable[[Tensor, Tensor], bool], str], ...] = (
    (
        lambda a, b: same(a.squeeze(), b.squeeze()),
        "The numbers are right, but an axis of length 1 "
        "is too many or too few (keepdim, unsqueeze, squeeze?)",
    ),
    (
        lambda a, b: a.ndim > 1 and same(a.mT, b),
        "The numbers are right, but the axes are exchanged",
    ),
    (lambda a, b: same(a.flatten(), b.flatten()), "The numbers are right, but not their shape"),
    (lambda a, b: same(a.sum(-1), b), "The last axis is not summed over"),
    (lambda a, b: same(a.sum(0), b), "The first axis is not summed over"),
    (lambda a, b: same(a.mean(-1), b), "The last axis is not averaged over"),
    (lambda a, b: same(a.mean(0), b), "The first axis is not averaged over"),
    (lambda a, b: same(a, b.sum()), "It is summed over everything"),
    (lambda a, b: same(a, b.mean()), "It is averaged over everything"),
    (lambda a, b: same(a, b.mean(0)), "It is averaged over the first axis"),
    (lambda a, b: same(a, b.sum(0)), "It is summed over the first axis"),
    (lambda a, b: same(a, b.mean(-1)), "It is averaged over the last axis"),
    (lambda a, b: same(a, b.sum(-1)), "It is summed over the last axis"),
)


def by_infinity(look: Look) -> str:
    """What NaN and infinite values say."""
    if all(x.isfinite().all() for x in look.found):
        return ""
    return (
        "It holds NaN or infinite values: the logarithm of zero or of a negative number, or an "
        "exponential of something large?"
    )


def _doubles(look: Look) -> list[tuple[Tensor, Tensor]]:
    pairs = zip(look.found, look.right, strict=True)
    return [(a.flatten().double(), b.flatten().double()) for a, b in pairs]


def by_constant(look: Look) -> str:
    """Whether a constant was added, perhaps one per pixel, latent or image."""
    differences = [a - b for a, b in _doubles(look)]
    noise = 1e-5 * max(float(b.abs().max()) for _, b in _doubles(look))
    constants = torch.stack([d.mean() for d in differences])
    if any((d - d.mean()).abs().max() > CLOSE * d.mean().abs() + noise for d in differences):
        return ""
    if _all_alike(constants, noise):
        return (
            f"It is off by the same constant, {constants.mean():.3g}, on every input: which term "
            "has none of the arguments in it?"
        )
    for name, sizes in _sizes(look):
        if _all_alike(constants / sizes, noise):
            return (
                f"It is off by {(constants / sizes).mean():.3g} times the number of {name} on "
                f"every input: which term has no argument in it but counts {name}?"
            )
    return ""


def _all_alike(numbers: Tensor, noise: float = 0.0) -> bool:
    mean = numbers.mean()
    return bool(((numbers - mean).abs() <= CLOSE * mean.abs() + noise).all())


def _sizes(look: Look) -> list[tuple[str, Tensor]]:
    """Sizes that differ between inputs, by name."""
    sizes = [look.task.sizes(*case) for case in look.cases]
    columns = {name: torch.tensor([float(s[name]) for s in sizes]) for name in sizes[0]}
    return [(name, values) for name, values in columns.items() if values.unique().numel() > 1]


def by_factor(look: Look) -> str:
    """Whether it was multiplied by a number, or by a size."""
    pairs = _doubles(look)
    factors = torch.stack([(a @ b) / (b @ b) for a, b in pairs])
    for (a, b), r in zip(pairs, factors, strict=True):
        if (a - r * b).abs().max() > CLOSE * (r * b).abs().max():
            return ""
    if _all_alike(factors):
        r = float(factors.mean())
        if abs(r + 1) < CLOSE:
            return "Its sign is the wrong one, and nothing else."
        return f"It is {r:.3g} times what it should be, on every input: which factor?"
    for name, sizes in _sizes(look):
        for power, words in ((1, "multiplied"), (-1, "divided")):
            rest = factors / sizes**power
            if _all_alike(rest):
                extra = float(rest[0])
                also = "" if abs(extra - 1) < CLOSE else f" (and {extra:.3g} times that)"
                return f"It is {words} by the number of {name} once too often{also}."
    return ""


def by_terms(look: Look) -> str:
    """Which summands have another factor, if nothing else is in it."""
    terms = look.task.terms
    if not terms:
        return ""
    columns = [
        torch.cat(
            [
                term.value(*case).expand(right.shape).flatten().double()
                for case, right in zip(look.cases, look.right, strict=True)
            ]
        )
        for term in terms
    ]
    A, found = torch.stack(columns, 1), torch.cat([a for a, _ in _doubles(look)])
    scale = A.abs().amax(0).clamp(min=1e-12)
    factors = torch.linalg.lstsq(A / scale, found).solution / scale
    if (A @ factors - found).abs().max() > 1e-4 * found.abs().max():
        return ""
    pairs = list(zip(terms, factors.tolist(), strict=True))
    said = [words for term, f in pairs if (words := _of_factor(term.words, f, term.factor))]
    if not 0 < len(said) <= 3:
        return ""
    ratios = {round(f / term.factor, 3) for term, f in pairs if term.factor}
    if len(ratios) == 1:
        return ""
    words = "; ".join(said)
    return (
        words[0].upper() + words[1:] + (". The rest is right." if len(said) < len(terms) else ".")
    )


def _of_factor(words: str, factor: float, right: float) -> str:
    if abs(factor - right) < 0.01:
        return ""
    if right == 0:
        return f"{words} does not belong in it"
    ratio = factor / right
    if abs(ratio) < 0.01:
        return f"{words} is missing"
    if abs(ratio + 1) < 0.01:
        return f"{words} has the wrong sign"
    return f"{words} counts {ratio:.3g} times what it should"


def difference(look: Look) -> str:
    """How an answer differs from the right one, without saying what is right."""
    comparisons = (by_shape, by_infinity, by_terms, by_constant, by_factor)
    return next(filter(None, (compare(look) for compare in comparisons)), "")
