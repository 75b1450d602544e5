"""Checks gradients before the optimizers use them, and clips their norm."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

UNEXPLAINED = (
    "a replay of it is finite, so the cause lies outside of model, guide and loss (something that "
    "writes gradients, or in a compiled step other random numbers)"
)


class Diverged(RuntimeError):
    """Too many steps in a row were not finite; the message says where they were not."""


class Guard:
    """Lets a step pass only if its loss and all its gradients are finite.

    An entry whose square overflows counts as infinite, because Adam's second moment of it would
    stay infinite. The norm of many finite entries may overflow, unless gradients are clipped.
    The check reads one number per step, which on a GPU waits for the gradients.

    Args:
        clip: maximum norm of the gradients, without those of rows of per-datum guides; larger
            gradients are scaled down to it. Infinite for no limit.
        most_skipped: number of consecutive refused steps at which ``Diverged`` is raised.

    Attributes:
        steps: number of steps.
        skipped: number of refused steps.
        consecutive: number of refused steps since the last one that passed.
        last: explanation of the first refused step of the latest series.
    """

    def __init__(self, clip: float = math.inf, most_skipped: int = 20) -> None:
        self.clip, self.most_skipped = clip, most_skipped
        self.steps = self.skipped = self.consecutive = 0
        self.last: str | None = None

    @torch.no_grad()
    def passes(self, loss: Tensor, parameters: Iterable[nn.Parameter]) -> bool:
        """Whether a step may be taken; if so, its gradients are clipped."""
        self.steps += 1
        found: list[Any] = [p for p in parameters if p.grad is not None]
        dense = [p for p in found if not p.grad.is_sparse]
        values = [p.grad for p in dense] + [p.grad._values() for p in found if p.grad.is_sparse]
        if not self._finite(loss, [value for value in values if value.numel()]):
            return False
        if self.clip < math.inf and dense:
            norm = nn.utils.get_total_norm([p.grad for p in dense])
            if not norm.isfinite():
                return False
            nn.utils.clip_grads_with_norm_(dense, self.clip, norm)
        self.consecutive = 0
        return True

    @staticmethod
    def _finite(loss: Tensor, values: list[Tensor]) -> bool:
        if not values:
            return math.isfinite(loss.item())
        squares = torch.stack(torch._foreach_norm(values)).square().sum()
        if math.isfinite((squares + loss).item()):
            return True
        # The sum of finite squares may overflow: look at the largest entry of each gradient.
        largest = torch.stack(torch._foreach_norm(values, math.inf))
        return bool(loss.isfinite() & largest.square().isfinite().all())

    def refuse(self, explain: Callable[[], str]) -> None:
        """Count a step that did not pass; the first of a series is explained.

        Raises:
            Diverged: If there were too many.
        """
        self.skipped += 1
        self.consecutive += 1
        if self.consecutive == 1 or self.last is None:  # a series may be older than this guard
            self.last = f"step {self.steps} was not finite: {explain() or UNEXPLAINED}"
        if self.consecutive >= self.most_skipped:
            number, self.consecutive = self.consecutive, 0  # in case training continues
            raise Diverged(f"{number} steps in a row were not finite; {self.last}")

    def state_dict(self) -> dict[str, int]:
        """The counters."""
        return {"steps": self.steps, "skipped": self.skipped, "consecutive": self.consecutive}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.steps, self.skipped = state["steps"], state["skipped"]
        self.consecutive = state["consecutive"]
