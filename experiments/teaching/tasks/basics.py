"""Checks of the introduction to PyTorch and Pyro: shapes, gradients, events (lab 0)."""

from collections.abc import Callable

import torch
import torch.distributions as dist
from torch import Tensor

from experiments.teaching.answers import asked
from experiments.teaching.examine import examine
from experiments.teaching.inputs import images, pixels
from experiments.teaching.rubric import Task, Wrong, hinted, said, same, with_name
from experiments.teaching.tasks.likelihoods import rough_pi
from ppl_models.random_numbers import seeded


def _distances(x: Tensor, c: Tensor) -> Tensor:
    return (x - c.unsqueeze(1)).square().sum(-1)


@with_name
def distances(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Check ``answer(x, c)``: squared distances ``[K, B]`` of ``[B, D]`` from ``[K, D]``."""

    def case() -> tuple[Tensor, Tensor]:
        D, K = pixels(), int(torch.randint(2, 9, ()))
        return torch.randn(images(), D), torch.randn(K, D)

    mistakes = hinted(
        lambda x, c: _distances(x, c).mT,
        "the table is transposed: a row per centre, a column per vector.",
        (lambda x, c: _distances(x, c).sqrt(), "the distance is wanted squared: no root."),
        (lambda x, c: _distances(x, c) / x.shape[1], "sum over the coordinates, no mean of them."),
        lambda x, c: (x - c.unsqueeze(1)).sum(-1).square(),
        "the differences are summed before they are squared.",
        lambda x, c: (x - c.unsqueeze(1)).abs().sum(-1),
        "these are absolute differences: square them.",
        lambda x, c: (x - c.unsqueeze(1)).square(),
        "the coordinates are not summed: sum over the last axis.",
    )
    shape = "a row per centre, a column per vector"
    examine(Task("distances", [_distances], case, mistakes, trained=(0, 1), shape=shape), answer)


@with_name
def slope(answer: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]) -> None:
    """Check ``answer(f, x)``: the derivative of f, which works on every entry, at ``x`` [B]."""

    def f(x: Tensor) -> Tensor:
        return x.sin() * x

    with seeded():
        x = torch.randn(7)
    right, before = x.sin() + x * x.cos(), x.clone()
    found = asked("slope", answer, f, x)
    if not isinstance(found, Tensor):
        raise Wrong(f"check.slope expects a tensor and got a {type(found).__name__}.")
    if not torch.equal(x.detach(), before):
        raise Wrong("it changes the numbers that it is given.")
    for wrong, hint in (
        (f(before), "this is f itself: its derivative is wanted."),
        (right.sum(), "one number for all entries: x.grad has one for each."),
        (right / 7, "divided by the number of entries: differentiate the sum, not the mean."),
    ):
        if same(found.detach(), wrong):
            raise Wrong(hint)
    if found.shape != right.shape:
        raise Wrong(f"its shape is {list(found.shape)}, that of x is {[7]}.")
    if not same(found.detach(), right):
        raise Wrong("it is not the derivative. Differentiate f(x).sum() by x.")
    again = asked("slope", answer, f, x)
    if not same(again.detach(), right):
        raise Wrong(
            "a second call with the same x gives another result: gradients add up in .grad."
        )
    said("slope", "the derivative of x sin(x) at seven places")


def _log_density(x: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    return dist.Normal(loc, scale).log_prob(x).sum(-1)


@with_name
def log_density(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Check ``answer(x, loc, scale)``: log N(x; loc, scale^2) of every row, ``[B]`` [nats]."""

    def case() -> tuple[Tensor, Tensor, Tensor]:
        D = pixels()
        return torch.randn(images(), D), torch.randn(D), torch.rand(D) + 0.5

    mistakes = hinted(
        lambda x, loc, scale: dist.Normal(loc, scale).log_prob(x),
        "one value per coordinate: close the event with .to_event(1), or sum over it.",
        lambda x, loc, scale: _log_density(x, loc, scale).sum(),
        "one number for all rows: each row is an observation of its own.",
        lambda x, loc, scale: _log_density(x, loc, scale).exp(),
        "this is the density: its logarithm is wanted.",
        lambda x, loc, scale: _log_density(x, loc, scale.sqrt()),
        "the scale is used as a variance: Normal takes the standard deviation.",
        lambda x, loc, scale: _log_density(x, loc, scale.square()),
        "the scale is squared: Normal takes the standard deviation.",
        lambda x, loc, scale: dist.Normal(loc, scale).log_prob(x).mean(-1),
        "sum over the coordinates, no mean of them.",
    )
    task = Task(
        "log_density",
        [_log_density],
        case,
        mistakes,
        trained=(0, 1, 2),
        shape="one per row",
        near=rough_pi(_log_density),
    )
    examine(task, answer)
