"""What a student's function returns, or in words what it raised."""

import linecache
import sysconfig
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments.errors import text_of
from experiments.teaching.rubric import Task, Unwritten, Wrong
from ppl_models.random_numbers import seeded

OURS = str(Path(__file__).parents[1])
LIBRARIES = tuple(sysconfig.get_paths()[key] for key in ("stdlib", "purelib", "platlib"))
SIGNATURE = "The function has to take the arguments that the notebook's cell gives it, in order."
CALLED = "What is called there takes other arguments."
ADVICE = (
    (("' is not defined",), "A misspelt name, or one from a cell that has not been run?"),
    (
        ("to satisfy the constraint", "to be within the support"),
        "NaN, or numbers that the distribution does not allow: scales and variances are above 0 "
        "(a log variance need not be), covariances are symmetric and positive definite, and a "
        "Bernoulli's values are 0 or 1.",
    ),
    (("not callable",), "Something is called that is no function."),
    (
        ("numpy.ndarray", "numpy.float"),
        "A NumPy array or number stands where a tensor belongs: stay with torch.",
    ),
    (
        ("out=NoneType",),
        "NumPy's functions give a tensor's methods arguments of their own: stay with torch.",
    ),
    (("positional argument", "keyword argument", "invalid combination of arguments"), CALLED),
    (
        ("dtype", "scalar type", "Double", "Half"),
        "Tensors of different dtypes meet: one made by "
        "NumPy, .double() or torch.tensor(..., dtype=...)?",
    ),
    (
        ("size", "shape", "dimension", "broadcast", "mat1", "mat2", "Dimension"),
        "Sizes that do not fit: a transpose too many or too few, or a size that comes from "
        "outside the function?",
    ),
    (("numpy()",), "NumPy cannot take a tensor that has a gradient: stay with torch."),
    (("requires grad", "backward"), "A tensor that is trained is written to, or cut off."),
)


def asked(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """What a student's function returns; whatever it raises is put into words.

    Raises:
        Wrong: In place of any other error.
        Unwritten: If the function is a stub.
    """
    if not callable(function):
        kind = type(function).__name__
        raise Wrong(
            f"check.{name} takes the function or network itself and got a {kind}: give it without "
            "calling it, and see that what makes it has a `return`."
        )
    try:
        found = function(*arguments)
    except NotImplementedError as error:
        raise Unwritten(text_of(error)) from None
    except Exception as error:
        shapes = ", ".join(map(described, arguments))
        words = text_of(error).strip().split("\n")[0].rstrip(".")
        places = _own(error)
        advice = next((text for keys, text in ADVICE if any(key in words for key in keys)), "")
        if advice == CALLED and not places:
            advice = SIGNATURE
        raise Wrong(
            f"check.{name} called the function with {shapes or 'no arguments'}, and it raised "
            f"{type(error).__name__}: {words}{_line(places)}. {advice}".rstrip()
        ) from error
    if found is None:
        raise Wrong(f"check.{name} got nothing (None). Is the `return` missing?")
    return found


def described(x: Any) -> str:
    """An argument in words: its shape, if it has one."""
    if isinstance(x, Tensor):
        return str(list(x.shape)) if x.ndim else "a number"
    return "a network" if isinstance(x, nn.Module) else f"{x!r}"[:40].split("(")[0]


def _own(error: Exception) -> list[tuple[str, int]]:
    """The student's own lines that an error passed, outermost first: file and number."""
    walked = traceback.walk_tb(error.__traceback__)
    places = [(frame.f_code.co_filename, number) for frame, number in walked]
    return [place for place in places if not place[0].startswith((OURS, *LIBRARIES))]


def _line(places: list[tuple[str, int]]) -> str:
    """The last of these lines whose source is known."""
    lines = [line for place in places if (line := linecache.getline(*place).strip())]
    return f" (in the line `{lines[-1]}`)" if lines else ""


def called(task: Task, answer: Callable[..., Any], case: tuple, seed: int = 1) -> list[Tensor]:
    """The parts of the answer to one case. Failing or writing to the arguments is wrong."""
    given = tuple(x.clone() if isinstance(x, Tensor) else x for x in case)
    with seeded(seed), torch.no_grad():
        value = asked(task.name, answer, *given)
    for before, after in zip(case, given, strict=True):
        if isinstance(before, Tensor) and not torch.equal(before, after):
            raise Wrong(
                "it changes the tensor that it is given (an argument of shape "
                f"{list(before.shape)}), so the caller's data are no longer what they were: write "
                "x = x - y where it says x -= y, and no method that ends in _."
            )
    return parts(task, value)


def parts(task: Task, value: Any) -> list[Tensor]:
    """What was returned as tensors, one per part."""
    several = isinstance(value, tuple) or (len(task.parts) > 1 and isinstance(value, list))
    values = value if several else (value,)
    expected = f"check.{task.name} expects {len(task.parts)} value(s), {', '.join(task.parts)}"
    if len(task.parts) == 1 and several:
        kind = type(value).__name__
        raise Wrong(
            f"{expected}, and got a {kind} of {len(values)}: a comma too many in `return`?"
        )
    if len(values) != len(task.parts):
        raise Wrong(f"{expected}, and got {len(values)} value(s). What does `return` give back?")
    return [_tensor(task, item) for item in values]


def derivatives(total: Tensor, inputs: Sequence[Tensor]) -> list[Tensor | None]:
    """The gradient in every input; None where it does not reach."""
    try:
        return list(torch.autograd.grad(total, inputs, allow_unused=True))
    except RuntimeError as error:
        cause = str(error).split("\n")[0]
        if "inplace" in cause:
            cause = (
                "a tensor that it needs is overwritten in place (+=, *=, a method ending in _)."
            )
        raise Wrong(f"the value is right, but it has no gradient: {cause}") from error


def _tensor(task: Task, item: Any) -> Tensor:
    kind = type(item).__name__
    if not isinstance(item, Tensor):
        number = isinstance(item, (int, float)) or getattr(item, "shape", None) == ()
        if isinstance(item, bool) or not number or not task.plain:
            cause = "what comes after works on tensors, so stay with torch throughout."
            if isinstance(item, (tuple, list)) and any(isinstance(x, Tensor) for x in item):
                cause = "torch.stack makes one tensor of several."
            elif task.trained:
                cause = "no gradient flows through it. Look for .item(), float(), NumPy, tolist()."
            raise Wrong(f"check.{task.name} expects a tensor of torch and got a {kind}: {cause}")
        return torch.as_tensor(float(item))
    if item.dtype == torch.bool or item.is_complex():
        words = "true or false" if item.dtype == torch.bool else "complex numbers"
        raise Wrong(f"check.{task.name} expects real numbers and got {words}: a comparison?")
    item = item.detach().to(torch.get_default_device())  # where the arguments lie
    return item if item.is_floating_point() else item.to(torch.get_default_dtype())
