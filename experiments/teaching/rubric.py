"""What a self-check judges by: right answers, known mistakes, and the hints for them."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, NamedTuple

import torch
from torch import Tensor

TOLERANCE = 1e-4
"""Of the largest entry: above the rounding of float32, far below any mistake."""


class Wrong(AssertionError):
    """What a self-check found. A notebook shows its words alone, and stops there."""

    def _render_traceback_(self) -> list[str]:
        return [f"Not yet. {self}"]


class Unwritten(NotImplementedError):
    """A stub that is still a stub. A notebook shows its words alone, and stops there."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def with_name(check: Callable[..., None]) -> Callable[..., None]:
    """The check, with its name before a finding that lacks it."""

    @wraps(check)
    def checked(*arguments: Any, **options: Any) -> None:
        try:
            check(*arguments, **options)
        except Wrong as error:
            if f"check.{check.__name__}" not in str(error):
                error.args = (f"check.{check.__name__}: {error}",)
            raise

    return checked


class Mistake(NamedTuple):
    """A wrong formula, called like the answer, and the hint for whoever wrote it.

    Args:
        formula: gives the wrong value of one part.
        hint: what to say of it.
        part: position of that part among those of the answer.
    """

    formula: Callable[..., Any]
    hint: str
    part: int = 0


def hinted(*entries: Any) -> list[Mistake]:
    """A table of mistakes in the first part.

    Args:
        entries: pairs of a wrong formula and its hint; where these are long, the formula and then
            the hint, which may be that of several formulas before it.
    """
    found: list[Mistake] = []
    for entry in reversed(entries):
        if isinstance(entry, str):
            hint = entry
        else:
            found.append(Mistake(*entry) if isinstance(entry, tuple) else Mistake(entry, hint))
    return found[::-1]


def within(
    formula: Callable[..., Callable[..., Any]], mistakes: Sequence[Mistake]
) -> list[Mistake]:
    """Mistakes in something that a larger formula contains: ``formula`` makes it from that."""
    return [mistake._replace(formula=formula(mistake.formula)) for mistake in mistakes]


class Term(NamedTuple):
    """A summand of the right formula.

    Args:
        words: what to call it.
        value: the summand, called like the answer.
        factor: how often the right formula contains it; 0 for what is often there too much.
    """

    words: str
    value: Callable[..., Tensor]
    factor: float = 1.0


class Probe(NamedTuple):
    """Arguments where a part of the formula has no effect.

    Args:
        where: what holds there, as in "log sigma^2 = 0".
        change: makes such arguments of those of a case.
        look: what to look at if the answer is right there and nowhere else.
    """

    where: str
    change: Callable[..., tuple]
    look: str


ONE_IMAGE = "there is one image"
"""The probe that right answers are tried at, too."""


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
        near: mistakes within the tolerance; an answer that lies nearer to one of them has made it.
        terms: summands of the first part.
        probes: arguments to try where no mistake is recognised.
        sizes: names of the sizes of a case, and what they are.
        views: of every part, what is compared; the part itself if there is none.
        plain: whether a Python or NumPy number will do in the place of a tensor.
    """

    name: str
    right: Sequence[Callable[..., Any]]
    cases: Callable[[], tuple]
    mistakes: Sequence[Mistake]
    trained: tuple[int, ...] = ()
    parts: tuple[str, ...] = ("the value",)
    shape: str = ""
    tolerance: float = TOLERANCE
    near: Sequence[Mistake] = ()
    terms: Sequence[Term] = ()
    probes: Sequence[Probe] = ()
    sizes: Callable[..., dict[str, int]] = lambda *case: {}
    views: Sequence[Callable[[Tensor], Tensor]] = ()
    plain: bool = False

    def viewed(self, number: int, part: Tensor) -> Tensor:
        """A part as it is compared."""
        return self.views[number](part) if self.views else part


def said(name: str, words: str) -> None:
    """Print the line that reports success."""
    print(f"check.{name}: right ({words}).")


def same(a: Tensor, b: Tensor, tolerance: float = TOLERANCE) -> bool:
    """Whether two tensors are equal but for rounding."""
    if a.shape != b.shape:
        return False
    a, b = a.to(b), b.detach()
    finite = b.isfinite()
    scale = float(b[finite].abs().max()) if finite.any() else 1.0
    return torch.allclose(a, b, rtol=0, atol=tolerance * scale + 1e-7, equal_nan=True)
