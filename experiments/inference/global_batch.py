"""What an unchanged program must do with the whole batch: batch norms, and draws of noise."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from pyro.poutine import runtime
from pyro.poutine.block_messenger import BlockMessenger
from pyro.poutine.indep_messenger import IndepMessenger
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from experiments.inference.distributed import Share, average

__all__ = ["GlobalBatch", "Watch"]

BY_ROWS = {
    "normal", "normal_", "uniform_", "exponential_", "cauchy_", "log_normal_", "bernoulli",
    "bernoulli_", "rand_like", "randn_like", "multinomial",
}  # fmt: skip
"""Draws that use up as many random numbers as they have entries, whatever their arguments are."""

OF_SHAPE = {"rand", "randn"}
DROPOUTS = {"dropout", "dropout_"}
REFUSED = {
    "_standard_gamma", "_sample_dirichlet", "poisson", "binomial", "geometric_", "random_",
    "alpha_dropout", "feature_alpha_dropout", "feature_dropout", "dropout1d", "dropout2d",
    "dropout3d", "rrelu", "gumbel_softmax", "randint", "randint_like",
}  # fmt: skip
COMMON = {"randperm"}
DRAWS = BY_ROWS | OF_SHAPE | DROPOUTS | REFUSED | COMMON


def rows_axis() -> int | None:
    """Where a draw made now has its rows: none outside the data plate, where it is common to all.

    Plates are counted from the right of the batch shape, the data plate is the last; handlers
    outside a ``block`` do not broadcast what is drawn inside.
    """
    dims = {}
    for handler in reversed(runtime._PYRO_STACK):
        if isinstance(handler, BlockMessenger):
            break
        if isinstance(handler, IndepMessenger) and handler.dim is not None:
            dims[handler.name] = handler.dim
    return max(-dim for dim in dims.values()) + dims["data"] if "data" in dims else None


class GlobalBatch(TorchFunctionMode):
    """Inside, batch norms see the rows of all processes, and noise is drawn for all of them.

    Every process draws what one process would draw for the whole batch, and keeps its own rows:
    generators stay in step, with each other and with that one process.

    Args:
        share: this process's part of the batch.
    """

    def __init__(self, share: Share) -> None:
        super().__init__()
        self.share = share
        self.known = False  # for Watch: what is drawn now went through here

    def __torch_function__(
        self, func: Callable, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if func is F.batch_norm:
            return self.batch_norm(*args, **kwargs)
        if name not in DRAWS:
            return func(*args, **kwargs)
        self.known = True
        try:
            return self.draw(func, name, list(args), kwargs)
        finally:
            self.known = False

    def draw(self, func: Callable, name: str, args: list[Any], kwargs: Any) -> Any:
        """This process's rows of a draw for the whole batch.

        Raises:
            ValueError: If it cannot be told what one process would have drawn.
        """
        axis = rows_axis()
        if name in DROPOUTS and not (args[2:3] or [kwargs.get("training", True)])[0]:
            return func(*args, **kwargs)
        if name in REFUSED | DROPOUTS if axis is None else name in REFUSED | COMMON:
            place = "outside the data plate" if axis is None else "inside the data plate"
            raise ValueError(
                f"torch.{name} {place} cannot be shared out between processes: use one."
            )
        if axis is None:
            return func(*args, **kwargs)
        if name in OF_SHAPE:
            size = list(args[0] if args and isinstance(args[0], Sequence) else args)
            size = list(kwargs.pop("size", size))
            size[axis] = self._repeats(size, axis) * self.share.total
            return self._mine(func(size, **kwargs), axis)
        axis = 0 if name == "multinomial" else axis  # it takes all plates as one dimension
        spread = lambda a: self._spread(a, axis) if isinstance(a, Tensor) else a  # noqa: E731
        named = {key: spread(value) for key, value in kwargs.items()}
        mine = self._mine(func(*map(spread, args), **named), axis)
        return args[0].copy_(mine) if name.endswith("_") else mine

    def _repeats(self, shape: Sequence[int], axis: int) -> int:
        """How often the rows follow each other along the axis."""
        if len(shape) <= axis or shape[axis] % self.share.rows:
            raise ValueError(
                f"numbers of shape {list(shape)} have no axis for the {self.share.rows} rows of "
                "the batch: they cannot be shared out between processes."
            )
        return shape[axis] // self.share.rows

    def _mine(self, whole: Tensor, axis: int) -> Tensor:
        by_row = whole.unflatten(axis, (-1, self.share.total))
        return by_row.narrow(axis + 1, self.share.start, self.share.rows).flatten(axis, axis + 1)

    def _spread(self, mine: Tensor, axis: int) -> Tensor:
        """Of the size of the whole batch: my rows in their place, copies of some elsewhere."""
        if mine.ndim <= axis or mine.shape[axis] == 1 != self.share.rows:
            return mine
        repeats = self._repeats(mine.shape, axis)
        place = torch.arange(self.share.total, device=mine.device) - self.share.start
        by_row = mine.unflatten(axis, (repeats, self.share.rows))
        spread = by_row.index_select(axis + 1, place.clamp(0, self.share.rows - 1))
        return spread.flatten(axis, axis + 1)

    def batch_norm(
        self, x: Tensor, running_mean: Tensor | None, running_var: Tensor | None,
        weight: Tensor | None = None, bias: Tensor | None = None, training: bool = False,
        momentum: float = 0.1, eps: float = 1e-5,
    ) -> Tensor:  # fmt: skip
        """``F.batch_norm`` with the moments of all rows, and their gradients.

        Raises:
            ValueError: If there is one number per channel, or x has other rows than the batch.
        """
        if not training:
            return F.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
        dims, shape = [0, *range(2, x.ndim)], (-1, *(1,) * (x.ndim - 2))
        count = self._repeats(x.shape, 0) * self.share.total * math.prod(x.shape[2:])
        if count == 1:
            raise ValueError("a batch norm needs more than one number per channel in training.")
        mean = average(x.mean(dims))
        centred = x - mean.view(shape)
        var = average(centred.square().mean(dims))
        if running_mean is not None and running_var is not None:
            with torch.no_grad():
                running_mean.lerp_(mean, momentum)
                running_var.lerp_(var * (count / (count - 1)), momentum)
        y = centred * (var + eps).rsqrt().view(shape)
        y = y if weight is None else y * weight.view(shape)
        return y if bias is None else y + bias.view(shape)


class Watch(TorchDispatchMode):
    """Refuses whatever depends on the batch as a whole and passed a ``GlobalBatch`` unseen.

    Args:
        seen: the mode that should have seen it.
    """

    def __init__(self, seen: GlobalBatch) -> None:
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        may_draw = torch.Tag.nondeterministic_seeded in func.tags and not self.seen.known
        before = _generators() if may_draw else []
        result = func(*args, **(kwargs or {}))
        drew = may_draw and not all(map(torch.equal, before, _generators()))
        if drew or ("batch_norm" in str(func) and any(argument is True for argument in args)):
            raise ValueError(f"{func} cannot be shared out between processes: use one.")
        return result


def _generators() -> list[Tensor]:
    """Where the random numbers are, on the processor and on its GPU."""
    gpu = [torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else []
    return [torch.get_rng_state(), *gpu]
