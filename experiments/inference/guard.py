"""What stands between a gradient and the optimiser: a check, and a bound on its norm."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from experiments.inference.deferred import Deferred
from experiments.inference.diagnosis import RandomState, explain
from experiments.inference.kept import Kept
from ppl_models.program import Batch

if TYPE_CHECKING:
    from experiments.inference.svi import SVI

__all__ = ["Diverged", "Guard"]


class Diverged(RuntimeError):
    """Too many steps in a row were not finite; the message says where they were not."""


class Guard:
    """Takes a step only if its loss and all its gradients are finite.

    A step that is not leaves no trace: parameters, per-datum rows, the optimiser's state, the
    weights' average, buffers (running means, vectors of power iterations) are as they were, and
    only the random state has moved on. An entry of a gradient whose square overflows counts as
    infinite: Adam's second moment of it would stay so for ever. The norm of many finite entries
    may overflow, unless it is to be bounded.

    On a processor the check costs next to nothing, and the step is not taken. On a GPU nothing is
    read back in a step: everything is put back on the device where the flag is false, and
    ``read`` fetches the counters. Loss and gradients are those of all processes, so all decide
    the same.

    Args:
        module: what is trained.
        clip: gradients are scaled down to this norm; infinite leaves them. Rows of per-datum
            guides are no part of it.
        most_skipped: steps in a row that may be refused.
        lazy: read nothing back in a step; by default where parameters lie on a GPU.

    Attributes:
        steps: how many were tried.
        skipped: how many did not pass; where nothing is read back, as of the last ``read``.
        consecutive: how many of them were the last ones, likewise.
        last: what was wrong with the first step of the latest series, in one line.
    """

    def __init__(
        self, module: nn.Module, clip: float = math.inf, most_skipped: int = 20,
        lazy: bool | None = None,
    ) -> None:  # fmt: skip
        self.module, self.clip, self.most_skipped, self.lazy = module, clip, most_skipped, lazy
        self.steps = self.skipped = self.consecutive = 0
        self.last: str | None = None
        self.kept = Kept()
        self.deferred: Deferred | None = None
        self._svi: SVI | None = None
        self._holders: list[dict[str, Any]] = []

    def step(self, svi: "SVI", batch: Batch) -> Tensor:
        """One step of an SVI, if it is finite; the loss before it [nats per data point].

        The loss of a refused step is infinite or NaN, also where only a gradient was.

        Raises:
            Diverged: If so many steps in a row were not, and that is known at once.
        """
        self.steps += 1
        self._meet(svi)
        random = RandomState.now(batch.index)
        if self.lazy:
            return self._deferred_step(svi, batch, random)
        self.kept.take(self._buffers())
        loss = attempt(svi.differentiate, batch, svi.parallel is not None)
        if self._passes(svi, loss):
            svi.descend()
            if svi.average:
                svi.average.update()
            self.consecutive = 0
        else:
            self.kept.put_back()
            svi.drop_gradients()
            self._refused(svi, batch, random)
            loss = math.inf * loss.abs()
        return loss

    def take(self, svi: "SVI", gradients: Callable[[Batch], Tensor], batch: Batch) -> Tensor:
        """A step of the optimisers that undoes itself on the device; a GPU may record it."""
        assert self.deferred
        return self.deferred.take(
            svi, self._buffers(),
            lambda: attempt(gradients, batch, svi.parallel is not None),
            lambda loss: self._finite(svi, loss),
        )  # fmt: skip

    def read(self) -> None:
        """Fetch the counters from the device, if they are there.

        Raises:
            Diverged: If the last steps were refused, and as many as may be.
        """
        if not self.deferred:
            return
        assert self._svi
        news = self.deferred.read()
        self.skipped, self.consecutive = news.skipped, news.consecutive
        if news.batch is not None and news.random is not None:
            self._explain(self._svi, news.batch, news.random, news.first)
        self._check_series()

    def state_dict(self) -> dict[str, int]:
        """The counters, as of the last ``read``."""
        return {"steps": self.steps, "skipped": self.skipped, "consecutive": self.consecutive}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.steps, self.skipped = state["steps"], state["skipped"]
        self.consecutive = state["consecutive"]
        if self.deferred:
            self.deferred.set(self.skipped, self.consecutive)

    def _meet(self, svi: "SVI") -> None:
        """Find out what there is to be kept; autoguides make theirs at the first call."""
        if svi is self._svi and self.steps > 2:
            return
        self._svi = svi
        for penalty in svi.penalties:
            penalty.start()
        parts = [part for whole in (self.module, *svi.penalties) for part in whole.modules()]
        self._holders = [part._buffers for part in parts]
        device = svi.optimizers[0].param_groups[0]["params"][0].device
        if self.lazy is None:
            self.lazy = device.type == "cuda"
        if self.lazy and not self.deferred:
            self.deferred = Deferred(device)
            self.deferred.set(self.skipped, self.consecutive)

    def _buffers(self) -> list[Tensor]:
        return [b for holder in self._holders for b in holder.values() if b is not None]

    def _deferred_step(self, svi: "SVI", batch: Batch, random: RandomState) -> Tensor:
        assert self.deferred
        loss = svi.on_device(batch)
        self.deferred.note(self.steps, batch, random)
        if svi.average:
            self.deferred.update(svi.average)
        return loss

    @torch.no_grad()
    def _passes(self, svi: "SVI", loss: Tensor) -> bool:
        """``_finite`` by way of squares, which take a twentieth of the time on a processor."""
        dense, rows = with_gradients(svi)
        values = gradients_of(dense, rows)
        if not values:
            return bool(loss.isfinite())
        norms = torch.stack(torch._foreach_norm(values))
        if not math.isfinite((norms.square().sum() + loss).item()):
            return bool(self._finite(svi, loss))
        if self.clip < math.inf and dense:
            total = torch.linalg.vector_norm(norms[: len(dense)])
            nn.utils.clip_grads_with_norm_(dense, self.clip, total)
        return True

    @torch.no_grad()
    def _finite(self, svi: "SVI", loss: Tensor) -> Tensor:
        """Whether loss and gradients are, a flag on the device; bounds the gradients."""
        dense, rows = with_gradients(svi)
        values = [value for value in gradients_of(dense, rows) if value.numel()]
        finite = loss.isfinite()
        if values:
            largest = torch.stack(torch._foreach_norm(values, math.inf))
            finite = finite & largest.square().isfinite().all()
        if self.clip < math.inf and dense:
            finite = finite & nn.utils.clip_grad_norm_(dense, self.clip).isfinite()
        return finite

    def _refused(self, svi: "SVI", batch: Batch, random: RandomState) -> None:
        self.skipped += 1
        self.consecutive += 1
        if self.consecutive == 1:
            self._explain(svi, batch, random, self.steps)
        self._check_series()

    def _explain(self, svi: "SVI", batch: Batch, random: RandomState, step: int) -> None:
        words = explain(svi.model, svi.guide, svi.objective, batch, random)
        moved = "" if self.consecutive else f" (looked at with the weights of step {self.steps})"
        self.last = f"step {step} was not finite: {words}{moved}"

    def _check_series(self) -> None:
        if self.consecutive < self.most_skipped:
            return
        number = self.consecutive
        self.load_state_dict(self.state_dict() | {"consecutive": 0})
        raise Diverged(f"{number} steps in a row were not finite; {self.last}")


def attempt(gradients: Callable[[Batch], Tensor], batch: Batch, shared: bool) -> Tensor:
    """A step's loss and gradients; NaN where a matrix of no numbers cannot be factorised."""
    try:
        return gradients(batch)
    except torch.linalg.LinAlgError:
        if shared:  # the other processes wait for this one's gradients
            raise
        return batch.index.new_full((), math.nan, dtype=torch.get_default_dtype())


def with_gradients(svi: "SVI") -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Parameters that have a gradient, and tables of which some rows have."""
    found = [parameter for parameter in svi.parameters if parameter.grad is not None]
    dense = [parameter for parameter in found if not parameter.grad.is_sparse]  # type: ignore[union-attr]
    return dense, [parameter for parameter in found if parameter.grad.is_sparse]  # type: ignore[union-attr]


def gradients_of(dense: list[nn.Parameter], rows: list[nn.Parameter]) -> list[Any]:
    return [p.grad for p in dense] + [p.grad._values() for p in rows]  # type: ignore[union-attr]
