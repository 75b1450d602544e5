"""An exponential moving average of the weights, which is evaluated instead of the weights."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def _has_mean(buffer: Tensor) -> bool:
    """Whether a buffer can be averaged, as masks, counters and infinite values cannot."""
    return buffer.is_floating_point() and bool(buffer.isfinite().all())


class WeightAverage:
    """An exponential moving average of a pair's weights and buffers.

    Integer, boolean and infinite buffers are copied.

    Args:
        module: the module whose weights are averaged.
        decay: weight of the old average in every update, in (0, 1).

    Raises:
        ValueError: If ``decay`` is not inside (0, 1).

    References:
        Polyak & Juditsky (1992), averaging; Kingma & Ba (2015), the exponential form.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"decay={decay} must lie inside (0, 1).")
        self.module = module
        self.averaged = AveragedModel(
            module, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True
        )
        self.copied = [n for n, b in module.named_buffers() if not _has_mean(b)]
        self.fixed = [self.weights.get_buffer(name) for name in self.copied]

    @torch.no_grad()
    def update(self) -> None:
        """After a step: move the average towards the weights."""
        self.averaged.update_parameters(self.module)
        if self.copied:
            own = dict(self.module.named_buffers())
            torch._foreach_copy_(self.fixed, [own[name] for name in self.copied])

    @property
    def weights(self) -> nn.Module:
        """A copy of the module that holds the average."""
        return self.averaged.module

    @torch.no_grad()
    def apply(self) -> None:
        """Replace the weights by the average."""
        self.module.load_state_dict(self.weights.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """The weights themselves, and the average."""
        return {"weights": self.module.state_dict(), "average": self.averaged.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.module.load_state_dict(state["weights"])
        self.averaged.load_state_dict(state["average"])
