"""Compiled steps when the objective, or one inside it, changes between them."""

import pytest
import torch

from experiments.inference.objectives import IWAE, AnalyticKL, FreeBits, Objective
from experiments.inference.svi import SVI
from tests.shared.linear_pair import SOME, Encoder, Linear

pytestmark = pytest.mark.usefixtures("as_traced")


class Mean(Objective):
    """The mean of some objectives."""

    def __init__(self, *parts: Objective) -> None:
        super().__init__()
        self.parts = parts

    def differentiable_loss(self, model, guide, batch):
        losses = [part.differentiable_loss(model, guide, batch) for part in self.parts]
        return torch.stack(losses).mean()


def losses(svi: SVI, *changes) -> torch.Tensor:
    found = []
    for k, change in enumerate((*changes, lambda: None)):
        torch.manual_seed(k)
        found.append(svi.step(SOME))
        change()
    return torch.stack(found)


def test_objectives_in_a_list_are_followed():
    found = []
    for compile in (False, True):
        bits, weighted = FreeBits(free_bits=0.1), IWAE(2)
        svi = SVI(Linear(), Encoder(), loss=Mean(bits, weighted), compile=compile)
        changes = (
            lambda bits=bits: setattr(bits, "free_bits", 3.0),
            lambda bits=bits: setattr(bits, "free_bits", 0.0),
            lambda weighted=weighted: setattr(weighted, "num_particles", 4),
        )
        found.append(losses(svi, *changes))
    assert not svi.compiled.reasons
    assert len(svi.compiled.graphs) == 2  # free bits are an argument
    torch.testing.assert_close(found[1], found[0])


def test_an_objective_may_be_replaced():
    found = []
    for compile in (False, True):
        bits = FreeBits(free_bits=3.0)
        svi = SVI(Linear(), Encoder(), loss=bits, compile=compile)
        changes = [
            lambda svi=svi, loss=loss: setattr(svi, "objective", loss)
            for loss in (IWAE(3), AnalyticKL(), bits)
        ]
        found.append(losses(svi, *changes))
    assert not svi.compiled.reasons
    assert len(svi.compiled.graphs) == 3
    torch.testing.assert_close(found[1], found[0])
