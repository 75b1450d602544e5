"""What a network does to its inputs, whatever its layers are called."""

import copy
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from experiments.teaching.answers import derivatives
from experiments.teaching.rubric import Wrong
from ppl_models.random_numbers import seeded

Network = Callable[[Tensor], Tensor]

LEAKY = ("leaky_relu", "leaky_relu_", "prelu", "rrelu", "rrelu_")
"""Functions of torch that differ from ReLU only below zero, where they have a slope."""


def from_anywhere(check: Callable[..., None]) -> Callable[..., None]:
    """The check, with layers whose weights start at zero made random while it runs."""

    @wraps(check)
    def checked(network: Any, *sizes: Any, **options: Any) -> None:
        parameters = list(network.parameters()) if isinstance(network, nn.Module) else []
        if parameters and not any(is_lazy(p) or p.any() for p in parameters):
            raise Wrong(
                "all its parameters are zero, where no gradient reaches hidden layers: leave them "
                "as PyTorch draws them."
            )
        zeros = [p for p in parameters if not is_lazy(p) and p.ndim > 1 and not p.any()]
        try:
            with seeded(), torch.no_grad():
                for p in zeros:
                    p.normal_(std=0.1)
            check(network, *sizes, **options)
        finally:
            with torch.no_grad():
                for p in zeros:
                    p.zero_()

    return checked


def has_shape(found: Any, wanted: list[int], words: str) -> None:
    """See that a result is a tensor of a shape."""
    if not isinstance(found, Tensor):
        kind = type(found).__name__
        raise Wrong(f"{words} is a {kind}: a tensor of torch is expected.")
    if list(found.shape) != wanted:
        raise Wrong(f"{words} has shape {list(found.shape)}, expected was {wanted}.")


def changes_sign(found: Tensor, words: str) -> None:
    """See that numbers are finite and of both signs."""
    values = found.detach()
    if not values.isfinite().all():
        raise Wrong(
            f"{words} is NaN or infinite: return numbers as they leave the last layer, no "
            "exponential or logarithm of them."
        )
    if (values >= 0).all() or (values <= 0).all():
        raise Wrong(
            f"{words} never changes its sign: a ReLU, softplus, sigmoid, softmax or exponential "
            "after the last layer, which is linear?"
        )


@torch.no_grad()
def answers_alike(network: Network, x: Tensor) -> None:
    """See that two calls give the same."""
    with seeded(1):
        first = network(x)
    with seeded(2):
        second = network(x)
    if not torch.equal(first, second):
        raise Wrong(
            "two calls with the same input give different results: dropout, or draws of its own? "
            "The networks draw nothing; the draw of z comes later."
        )


@torch.no_grad()
def rows_are_apart(network: Network, x: Tensor) -> None:
    """See that every row is treated for itself, and not all in the same way."""
    x = x[:: len(x) // 7]
    whole, single = network(x), [network(row[None]) for row in x]
    if any(row.shape != whole[:1].shape for row in single):
        raise Wrong(
            f"for a single row the result has shape {list(single[0].shape)}, expected was "
            f"{list(whole[:1].shape)} (squeeze?)."
        )
    if not torch.allclose(
        whole, torch.cat(single), rtol=1e-3, atol=1e-3 * float(whole.abs().max())
    ):
        raise Wrong(
            "what becomes of a row depends on the other rows of the batch: a softmax, a mean or a "
            "norm over the wrong axis?"
        )
    if (whole - whole[0]).abs().max() < 1e-6 * whole.abs().max():
        raise Wrong("the result is the same for every input.")


@torch.no_grad()
def is_bent(network: Network, dim: int) -> None:
    """See that it is no affine map."""
    with seeded(2):
        drawn = torch.randn(2, 64, dim)
    for (a, b), words in (
        (drawn, "two linear layers without a nonlinearity between them are one."),
        (drawn.abs(), "of inputs that are not negative: is a ReLU applied to the input itself?"),
    ):
        bend = network(a + b) - network(a) - network(b) + network(torch.zeros_like(a))
        if bend.abs().max() < 1e-4 * network(a).abs().max():
            raise Wrong(f"it is an affine map: {words}")


@torch.no_grad()
def is_made_of_straight_pieces(network: nn.Module, dim: int) -> None:
    """See that it is affine on small scales nearly everywhere, as it is with ReLU alone."""
    double = copy.deepcopy(network).double()
    with seeded(2):
        a, step = torch.randn(64, dim).double(), 1e-3 * torch.randn(64, dim).double()
    try:
        parts = [double(x) for x in (a - step, a, a + step)]
    except RuntimeError:  # it makes float32 tensors of its own
        return
    before, at, after = (p if isinstance(p, Tensor) else torch.cat(tuple(p), -1) for p in parts)
    bend = (before - 2 * at + after).abs().amax(1) / at.abs().max()
    if (bend > 1e-10).double().mean() > 0.8:
        raise Wrong(
            "the nonlinearity is a smooth one (tanh, SiLU, GELU, softplus?): the lab's hidden "
            "layer is ReLU."
        )


class Calls(TorchFunctionMode):
    """Records the names of the functions of torch that are called inside."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.names.add(getattr(func, "__name__", ""))
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def is_not_leaky(network: Network, x: Tensor) -> None:
    """See that the nonlinearity is none of ``LEAKY``, which is made of straight pieces, too."""
    with Calls() as calls:
        network(x)
    for name in LEAKY:
        if name in calls.names:
            raise Wrong(f"the nonlinearity is {name}: the lab's is ReLU.")


@torch.no_grad()
def grows(network: Network, x: Tensor, words: str) -> None:
    """See that it grows in both directions as its input does."""
    near, far = network(x), network(100 * x)
    for sign, bound in ((1, "above"), (-1, "below")):
        a, b = float((sign * near).max()), float((sign * far).max())
        if b < 10 * a:
            raise Wrong(
                f"however large the input is, {words} is bounded from {bound} (by about "
                f"{sign * b:.3g}): a clamp, tanh or sigmoid? Layers are linear, with ReLU between "
                "them."
            )


def is_trained(network: Any, total: Tensor) -> None:
    """See that gradients reach all parameters."""
    parameters = dict(network.named_parameters())
    if not parameters:
        raise Wrong("it has no parameters: assign its layers to self in __init__.")
    if not total.requires_grad:
        raise Wrong("no gradient flows: .detach(), .data or no_grad()?")
    found = derivatives(total, list(parameters.values()))
    idle = [key for key, value in zip(parameters, found, strict=True) if value is None]
    if idle:
        raise Wrong(f"no gradient reaches {', '.join(idle)}: are they used?")
