"""How fast a machine convolves: a model's own convolutions by themselves, forward and backward."""

import collections
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.inference.objectives.regularisers import convolutions


class Call(NamedTuple):
    """What a convolution is called with: shapes, and how it moves."""

    image: tuple[int, ...]
    weight: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    groups: int

    @property
    def flops(self) -> int:
        """Of the forward pass, two per multiply-add; backward has twice as many."""
        height, width = (
            (side + 2 * pad - kernel) // step + 1
            for side, pad, kernel, step in zip(
                self.image[2:], self.padding, self.weight[2:], self.stride, strict=True
            )
        )
        return 2 * self.image[0] * height * width * math.prod(self.weight)


def calls_of(module: nn.Module, run: Callable[[], Any]) -> collections.Counter[Call]:
    """Every convolution that ``run`` calls in a module, with how often."""
    counted: collections.Counter[Call] = collections.Counter()

    def note(conv: Any, inputs: tuple[Tensor], _: Tensor) -> None:
        shapes = inputs[0].shape, conv.weight.shape
        counted[Call(*shapes, conv.stride, conv.padding, conv.groups)] += 1

    hooks = [conv.register_forward_hook(note) for _, conv in convolutions(module)]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return counted


def seconds_of(call: Call, like: Tensor, repeats: int = 3) -> float:
    """The fastest of a few forward and backward passes of one convolution."""

    def leaf(shape: tuple[int, ...]) -> Tensor:
        tensor = torch.randn(shape, dtype=like.dtype, device=like.device)
        return tensor.contiguous(memory_format=torch.channels_last).requires_grad_()

    image, weight = leaf(call.image), leaf(call.weight)
    fastest = float("inf")
    for _ in range(repeats + 1):
        began = time.perf_counter()
        out = F.conv2d(image, weight, None, call.stride, call.padding, groups=call.groups)
        out.backward(out.detach())
        if like.is_cuda:
            torch.cuda.synchronize()
        fastest = min(fastest, time.perf_counter() - began)
    return fastest
