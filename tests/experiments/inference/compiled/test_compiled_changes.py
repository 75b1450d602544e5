"""Whatever changes between two steps, a compiled one is the eager one, or says why it is none."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import torch._inductor.config
from torch import nn

from experiments.inference.compiled import CompileWarning, graph
from experiments.inference.svi import SVI
from ppl_models import Batch
from ppl_models.batch import data_plate
from ppl_models.program import Program

needs_compiler = pytest.mark.skipif(not graph.can_compile(), reason="Inductor needs a compiler")
D, B = 3, 6


class Labelled(NamedTuple):
    """A batch of one's own, with labels and a mask inside a dictionary."""

    x: Any
    index: Any
    size: int
    more: dict[str, Any]
    repeats: int = 1


class Model(Program):
    """z ~ N(0, I), x ~ N(Wz + what is told otherwise, s^2)."""

    scale = 0.5

    def __init__(self, told) -> None:
        super().__init__()
        self.W, self.told = nn.Parameter(torch.randn(D, D)), told
        self.shift, self.config, self.array = torch.zeros(D), {"scale": [0.5]}, np.ones(1)
        self.flag, self.slotted, self.schedule = "plain", Slotted(), Schedule()

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(self.W.new_zeros(D), 1.0).to_event(1))
            likelihood = self.told(self, z @ self.W, batch)
            return pyro.sample("x", likelihood.to_event(1), obs=batch.x)


class Encoder(Program):
    def __init__(self) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.randn(D, D) * 0.3)

    def forward(self, batch):
        with data_plate(batch):
            return pyro.sample("z", dist.Normal(batch.x @ self.A, 0.5).to_event(1))


def with_labels(model, loc, batch):
    more = batch.more
    return dist.Normal(loc + more["y"], 0.5).mask(more["seen"])


def steps_of_labels():
    for k in range(6):
        more = {"y": torch.randn(B, D), "seen": torch.rand(B, D) < 0.7}
        yield Labelled(torch.randn(B, D), torch.arange(B) + k, 40, more)


def steps_of(change):
    def steps(model):
        for k in range(6):
            change(model, k)
            yield Batch(torch.randn(B, D), torch.arange(B) + k, 40)

    return steps


def set_shift(model, k):
    model.shift = torch.randn(B, D)


def set_inside(model, k):
    model.shift.mul_(0).add_(k)


@dataclass(slots=True)
class Slotted:
    scale: float = 0.5


class Schedule:
    """An object that is called, as schedules are."""

    def __init__(self) -> None:
        self.scale = 0.5

    def __call__(self):
        return self.scale


SCALE = 0.5


def set_scale(model, k):
    """Change everything that might hold a scale."""
    global SCALE
    SCALE = model.schedule.scale = model.slotted.scale = type(model).scale = 0.5 + k % 2


CHANGES = {
    "labels and masks of the batch": (with_labels, lambda _: steps_of_labels()),
    "an attribute": (lambda m, loc, _: dist.Normal(loc + m.shift, 0.5), steps_of(set_shift)),
    "an attribute in place": (
        lambda m, loc, _: dist.Normal(loc + m.shift, 0.5),
        steps_of(set_inside),
    ),
    "a number in a list": (
        lambda m, loc, _: dist.Normal(loc, m.config["scale"][0]),
        steps_of(lambda m, k: m.config["scale"].__setitem__(0, 0.5 + k % 2)),
    ),
    "an array": (
        lambda m, loc, _: dist.Normal(loc + float(m.array[0]), 0.5),
        steps_of(lambda m, k: m.array.__setitem__(0, k % 3)),
    ),
    "a word": (
        lambda m, loc, _: dist.Normal(loc, 0.5 if m.flag == "plain" else 1.5),
        steps_of(lambda m, k: setattr(m, "flag", ("plain", "wide")[k % 2])),
    ),
    "an attribute that comes late": (
        lambda m, loc, _: dist.Normal(loc, getattr(m, "late", 0.5)),
        steps_of(lambda m, k: k > 2 and setattr(m, "late", 1.5)),
    ),
    "an object with slots": (
        lambda m, loc, _: dist.Normal(loc, m.slotted.scale),
        steps_of(set_scale),
    ),
    "an object that is called": (
        lambda m, loc, _: dist.Normal(loc, m.schedule()),
        steps_of(set_scale),
    ),
    "an attribute of the class": (
        lambda m, loc, _: dist.Normal(loc, m.scale),
        steps_of(set_scale),
    ),
    "a variable of the file": (
        lambda m, loc, _: dist.Normal(loc, SCALE),
        steps_of(set_scale),
    ),
}


def trained(name, compile):
    torch.manual_seed(0)
    told, steps = CHANGES[name]
    model, guide = Model(told), Encoder()
    optim = torch.optim.SGD([*model.parameters(), *guide.parameters()], 1e-3)
    svi = SVI(model, guide, optim, compile=compile)
    losses = []
    for k, batch in enumerate(steps(model)):
        torch.manual_seed(100 + k)
        losses.append(svi.step(batch))
        torch.manual_seed(200 + k)
    assert not compile or not svi.compiled.reasons
    return torch.stack(losses), model.W.detach(), guide.A.detach()


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_between_steps_is_seen(name, as_traced):
    # test_enumeration changes all of it under Inductor
    for one, other in zip(trained(name, True), trained(name, False), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


OUTSIDE = torch.ones(D)


class Own:
    def __init__(self, x) -> None:
        self.x, self.index, self.size, self.repeats = x, torch.arange(B), 40, 1

    def __iter__(self):
        return iter((self.x, self.index, self.size))


REFUSED = {
    "a tensor in a list": (
        lambda m, loc, _: dist.Normal(loc + m.config["tensors"][0], 0.5),
        r"the tensor in Model\.config takes part",
    ),
    "a tensor of the file": (
        lambda m, loc, _: dist.Normal(loc + OUTSIDE, 0.5),
        r"the tensor \[3\] outside of the modules takes part",
    ),
    "item": (
        lambda m, loc, _: dist.Normal(loc + m.shift.sum().item(), 0.5),
        "a tensor's value decides what is computed",
    ),
    "numpy": (
        lambda m, loc, _: dist.Normal(loc + float(np.asarray(m.shift)[0]), 0.5),
        "a tensor's value decides what is computed",
    ),
    "shapes": (
        lambda m, loc, b: dist.Normal(loc + b.x[b.x > 0].sum(), 0.5),
        "a tensor's values decide the shape of another",
    ),
    "batch": (lambda m, loc, _: dist.Normal(loc, 0.5), "the parts of a Own cannot be seen"),
}


@needs_compiler
@pytest.mark.parametrize("name", REFUSED)
def test_what_a_graph_would_keep_for_ever_is_refused(name):
    told, words = REFUSED[name]
    model, guide = Model(told), Encoder()
    model.config["tensors"] = [torch.ones(D)]
    svi = SVI(model, guide, compile=True)
    batches = [Batch(torch.randn(B, D), torch.arange(B), B) for _ in range(2)]
    batches = [Own(b.x) for b in batches] if name == "batch" else batches
    with pytest.warns(CompileWarning, match=f"runs eagerly: {words}"):
        assert svi.step(batches[0]).isfinite()
    assert svi.step(batches[1]).isfinite()
