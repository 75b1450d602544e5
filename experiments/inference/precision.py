"""Matrix products and convolutions in bfloat16; log-densities and all else are unchanged."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

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
        if function not in PRODUCTS or args[0].dtype != torch.float32:
            return function(*args, **kwargs)
        args, kwargs = tree_map_only(Tensor, Tensor.bfloat16, (args, kwargs))
        return function(*args, **kwargs).float()


def products(name: str) -> AbstractContextManager[Any]:
    """What matrix products are computed in: ``exact``, the tensors' own dtype, or ``bfloat16``."""
    return {"exact": nullcontext, "bfloat16": BFloat16Products}[name]()
