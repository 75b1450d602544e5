"""The convolutions of an NVAE: their shapes, their arithmetic, and their speed by themselves."""

import collections
import math
from typing import Any, NamedTuple

import pyro
import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.benchmarks.timing import seconds_of_calls
from experiments.inference.objectives.regularisers import convolutions
from experiments.inference.svi import Pair
from ppl_models.batch import Batch


class Call(NamedTuple):
    """Shapes and options of a call of a convolution."""

    image: tuple[int, ...]
    weight: tuple[int, ...]
    output: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    groups: int

    @property
    def flops(self) -> int:
        """Of the forward pass, two per multiply-add; backward has twice as many."""
        return 2 * math.prod(self.output) * math.prod(self.weight[1:])


def calls_of(pair: Pair, batch: Batch) -> collections.Counter[Call]:
    """Every convolution that guide and model call on a batch, with how often."""
    counted: collections.Counter[Call] = collections.Counter()

    def note(conv: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        shapes = inputs[0].shape, conv.weight.shape, output.shape
        counted[Call(*shapes, conv.stride, conv.padding, conv.groups)] += 1

    hooks = [conv.register_forward_hook(note) for _, conv in convolutions(pair)]
    try:
        with torch.no_grad(), pyro.validation_enabled(False):
            pair.guide(batch)  # which runs the model
    finally:
        for hook in hooks:
            hook.remove()
    return counted


def seconds_of(call: Call, like: Tensor) -> float:
    """The fastest of four forward and backward passes of one convolution."""

    def leaf(shape: tuple[int, ...]) -> Tensor:
        tensor = torch.randn(shape, dtype=like.dtype, device=like.device)
        return tensor.contiguous(memory_format=torch.channels_last).requires_grad_()

    image, weight = leaf(call.image), leaf(call.weight)

    def both_ways() -> None:
        out = F.conv2d(image, weight, None, call.stride, call.padding, groups=call.groups)
        out.backward(out.detach())

    return min(seconds_of_calls(both_ways) for _ in range(4))
