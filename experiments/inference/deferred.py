"""Steps that undo themselves on the device where they are not finite: nothing is read back."""

import math
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from experiments.inference.average import WeightAverage
from experiments.inference.diagnosis import RandomState
from experiments.inference.kept import Kept, KeptRows
from ppl_models.program import Batch

if TYPE_CHECKING:
    from experiments.inference.svi import SVI

__all__ = ["Deferred", "News"]


class News(NamedTuple):
    """What the counters say, and the first step of a series of refused ones, if it is a new one.

    ``first`` is its number; ``batch`` and ``random`` what it saw and drew from.
    """

    skipped: int
    consecutive: int
    first: int
    batch: Batch | None = None
    random: RandomState | None = None


class Deferred:
    """Counters on a device, and what is kept there of a step until it is known to be good.

    Args:
        device: where parameters lie.
    """

    def __init__(self, device: torch.device) -> None:
        self.counts = torch.zeros(3, dtype=torch.long, device=device)  # News, its numbers
        self.finite = torch.ones((), dtype=torch.bool, device=device)
        self.kept, self.average = Kept(), Kept()
        self.held: dict[Hashable, tuple[Tensor, Tensor]] = {}
        self.seen: dict[int, tuple[Hashable, int, int, RandomState]] = {}
        self.told = 0

    def set(self, skipped: int, consecutive: int) -> None:
        """Have the counters go on from here."""
        self.counts.copy_(torch.tensor([skipped, consecutive, 0]))
        self.told = 0

    def take(
        self, svi: "SVI", buffers: Sequence[Tensor], gradients: Callable[[], Tensor],
        check: Callable[[Tensor], Tensor],
    ) -> Tensor:  # fmt: skip
        """A step of the optimisers that leaves no trace where ``check`` of its loss is false.

        The loss of such a step is given as infinite or NaN. State that the optimisers make at
        their first step begins at zero. A recorded step repeats all of this.
        """
        before = self._state(svi)
        self.kept.take([*buffers, *before])
        loss = gradients()
        rows = KeptRows(svi.local_optim) if svi.local_optim else None
        with torch.no_grad():
            self.finite.copy_(check(loss))
        svi.descend()
        self.kept.put_back_unless(self.finite)
        if rows:
            rows.put_back_unless(self.finite)
        known = set(map(id, before))
        for tensor in self._state(svi):
            if id(tensor) not in known:
                tensor.copy_(torch.where(self.finite, tensor, torch.zeros_like(tensor)))
        skipped, consecutive, _ = self.counts
        skipped.add_(~self.finite)
        consecutive.add_(1).mul_(~self.finite)
        return torch.where(self.finite, loss, math.inf * loss.abs())

    def _state(self, svi: "SVI") -> list[Tensor]:
        """What the optimisers change, but for rows; all of it on the device."""
        found: list[Tensor] = []
        for optimizer in svi.optimizers:
            if optimizer is svi.local_optim:
                continue
            for group in optimizer.param_groups:
                if self.finite.is_cuda and "capturable" in group:
                    group["capturable"] = True  # else counts of steps lie on the host
                for parameter in group["params"]:
                    state = optimizer.state.get(parameter, {})
                    for name, value in state.items():
                        if isinstance(value, Tensor) and value.device != self.finite.device:
                            state[name] = value.to(self.finite.device)
                    tensors = [value for value in state.values() if isinstance(value, Tensor)]
                    found += [parameter, *tensors]
        return found

    @torch.no_grad()
    def note(self, step: int, batch: Batch, random: RandomState) -> None:
        """After a step: hold its batch, if it is the first of a series."""
        assert batch.x is not None
        first = self.counts[1] == 1
        self.counts[2].copy_(torch.where(first, step, self.counts[2]))
        key = (batch.x.shape, batch.x.dtype)
        if key not in self.held:
            self.held[key] = batch.x.clone(), batch.index.clone()
        for held, value in zip(self.held[key], (batch.x, batch.index), strict=True):
            held.copy_(torch.where(first, value, held))
        self.seen[step] = key, batch.size, batch.repeats, random

    def update(self, average: WeightAverage) -> None:
        """Move the average after a step that was good.

        Only its very first move is waited for: the average begins there.
        """
        averaged = average.averaged
        if int(averaged.n_averaged) == 0:
            if bool(self.finite):
                average.update()
            return
        tensors = [*averaged.parameters(), *averaged.buffers()]
        self.average.take([t for t in tensors if t.device == self.finite.device])
        average.update()
        self.average.put_back_unless(self.finite)

    def read(self) -> News:
        """Fetch the counters."""
        skipped, consecutive, first = self.counts.tolist()
        news = News(skipped, consecutive, first)
        if first != self.told:
            key, size, repeats, random = self.seen[first]
            batch = Batch(*self.held[key], size, repeats)
            news = news._replace(batch=batch, random=random)
        self.told = first
        self.seen.clear()
        return news
