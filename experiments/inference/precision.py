"""Matrix products and convolutions in bfloat16; log-densities and all else are unchanged."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

PRODUCTS = {F.linear, F.conv2d, F.conv_transpose2d, torch.conv2d, torch.conv_transpose2d}


class BFloat16Products(TorchFunctionMode):
    """Inside, affine maps and convolutions of float32 tensors multiply in bfloat16.

    Unlike ``torch.autocast`` it never lets a rounded number into a distribution: parameters,
    activations, batch norms and log-densities keep their dtype, and so do gradients.
    """

    def __torch_function__(
        self, function: Callable, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function not in PRODUCTS:
            return function(*args, **kwargs)
        x = args[0] if args else kwargs["input"]
        if x.dtype != torch.float32:
            return function(*args, **kwargs)
        rounded = [_rounded(value) for value in args]
        named = {name: _rounded(value) for name, value in kwargs.items()}
        return function(*rounded, **named).float()


def _rounded(value: Any) -> Any:
    return value.bfloat16() if isinstance(value, Tensor) else value


def products(name: str) -> AbstractContextManager[Any]:
    """What matrix products are computed in: ``exact``, the tensors' own dtype, or ``bfloat16``."""
    return {"exact": nullcontext, "bfloat16": BFloat16Products}[name]()
