"""What a compiled step must see of a change between two steps."""

import functools
import random
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from experiments.inference.compiled.graph_key import Holder
from experiments.inference.precision import BFloat16Products
from experiments.inference.svi import SVI
from ppl_models import Batch
from ppl_models.batch import data_plate
from tests.shared.linear_pair import SOME, Decoder, Encoder, Linear, N, X

pytestmark = pytest.mark.usefixtures("as_traced")


class Schedule:
    def __init__(self) -> None:
        self.scale = 0.5

    def now(self) -> float:
        return self.scale


@dataclass(frozen=True)
class Config:
    scale: float = 0.5


class Options:
    scale = 0.5


SCALE, SETTINGS, ELSEWHERE = 0.5, {"scale": 0.5}, Schedule()
CONFIG, FILE, ARRAY = Config(), ModuleType("file"), np.array([0.5])


def now() -> float:
    return SCALE


class Scaled(Linear):
    """The standard deviation of x is what ``scale`` returns."""

    options: ClassVar = {"scale": 0.5}

    def forward(self, batch):
        with data_plate(batch):
            z = self.prior()
            x = dist.Normal(z + self.loc, self.scale()).to_event(1)
            return pyro.sample("x", x, obs=batch.x)


class DictionaryOfTheClass(Scaled):
    def scale(self):
        return self.options["scale"]


class DictionaryOfTheFile(Scaled):
    def scale(self):
        return SETTINGS["scale"]


class InAProperty(Scaled):
    @property
    def now(self):
        return SCALE

    def scale(self):
        return self.now


class InAnInnerFunction(Scaled):
    def scale(self):
        return (lambda: SCALE)()


class InADefault(Scaled):
    def scale(self, settings=SETTINGS):
        return settings["scale"]


class InABoundMethod(Scaled):
    def __init__(self) -> None:
        super().__init__()
        self.scale = ELSEWHERE.now


class InAPartial(Scaled):
    def __init__(self) -> None:
        super().__init__()
        self.scale = functools.partial(getattr, ELSEWHERE, "scale")


class InAConfigOfTheFile(Scaled):
    def scale(self):
        return CONFIG.scale


class InAnObjectOfTheFile(Scaled):
    def scale(self):
        return ELSEWHERE.scale


class InAnotherClass(Scaled):
    def scale(self):
        return Options.scale


class InAnotherFile(Scaled):
    def scale(self):
        return FILE.scale


class InAnArrayOfTheFile(Scaled):
    def scale(self):
        return float(ARRAY[0])


class InAFunctionOfTheFile(Scaled):
    def scale(self):
        return now()


def enclosed(settings):
    class InAnOuterFunction(Scaled):
        def scale(self):
            return settings["scale"]

    return InAnOuterFunction


InAnOuterFunction = enclosed(SETTINGS)


def change(scale: float) -> None:
    global SCALE, CONFIG
    CONFIG, Options.scale, vars(FILE)["scale"], ARRAY[0] = Config(scale), scale, scale, scale
    SCALE = SETTINGS["scale"] = ELSEWHERE.scale = Scaled.options["scale"] = scale


@pytest.mark.filterwarnings("ignore:this step cannot be compiled")
@pytest.mark.parametrize("kind", Scaled.__subclasses__(), ids=lambda kind: kind.__name__)
def test_a_number_that_changes_between_steps_is_seen(kind):
    found = []
    for compile in (False, True):
        svi = SVI(kind(), Encoder(), compile=compile)
        for scale in (0.5, 2.0):
            change(scale)
            torch.manual_seed(1)
            loss = svi.step(SOME)
        change(0.5)
        found.append(loss)
    torch.testing.assert_close(found[1], found[0])


class Meter:
    """Counts its updates, and how often its property is asked."""

    def __init__(self) -> None:
        self.updates = self.asked = 0

    def update(self) -> None:
        self.updates += 1

    @property
    def next(self) -> int:
        self.asked += 1
        return self.asked


METER = Meter()


class Metered(Linear):
    def mean(self, z, batch):
        METER.update()
        return super().mean(z, batch)

    def summary(self):
        return METER.next


def test_an_object_that_counts_is_no_setting_and_no_property_is_called():
    svi = SVI(Metered(), Encoder(), compile=True)
    for _ in range(3):
        svi.step(SOME)
    assert METER.updates > 0
    assert METER.asked == 0
    assert len(svi.compiled.graphs) == 1
    assert not svi.compiled.reasons


def test_a_backward_hook_of_a_module_is_called():
    model, seen = Decoder(), []
    svi = SVI(model, Encoder(), compile=True)
    svi.step(SOME)
    model.decoder.register_full_backward_hook(lambda *_: seen.append(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an eager step would say so
        svi.step(SOME)
        svi.step(SOME)
    assert len(seen) == 2


@pytest.mark.filterwarnings("ignore:this step cannot be compiled")
@pytest.mark.parametrize(
    "inside",
    [BFloat16Products, lambda: torch.autocast("cpu", torch.bfloat16)],
    ids=["ours", "torch"],
)
def test_rounded_products_are_those_of_the_step(inside):
    batch = Batch(SOME.x.float(), SOME.index, SOME.size)

    def steps(*rounded: bool) -> torch.Tensor:
        torch.manual_seed(0)
        model, guide = Decoder().float(), Encoder().float()
        svi = SVI(model, guide, lambda p: torch.optim.SGD(p, lr=0.0), compile=True)
        for one in rounded:
            torch.manual_seed(1)
            with inside() if one else nullcontext():
                loss = svi.step(batch)
        return loss

    assert torch.equal(steps(False, True), steps(True))
    assert torch.equal(steps(True, False), steps(False))
    assert not torch.equal(steps(True), steps(False))


@pytest.mark.parametrize("sizes", [(1, 4, N), (N, 4, 1)])
def test_another_kind_of_batch_is_checked_before_it_is_a_graph(sizes):
    losses = []
    for compile in (False, True):
        svi = SVI(Linear(), Encoder(), compile=compile)
        torch.manual_seed(1)
        losses.append([svi.step(Batch(X[:n], torch.arange(n), N)) for n in (*sizes, *sizes)])
    assert svi.compiled.reasons == []
    assert len(svi.compiled.graphs) == 3
    torch.testing.assert_close(losses[1], losses[0])


GENERATOR = np.random.default_rng(0)


class Drawing(Linear):
    """Its author may draw from a generator of its own which of two branches is computed."""

    def __init__(self, generator) -> None:
        super().__init__()
        self.generator = generator

    def of_the_file(self):
        return GENERATOR.random()


@pytest.mark.parametrize(
    "make", [np.random.default_rng, np.random.RandomState, random.Random, lambda _: GENERATOR]
)
def test_a_draw_from_any_generator_asks_for_another_graph(make):
    generator = make(0)
    holder = Holder(Drawing(None if generator is GENERATOR else generator), ())
    before = holder.settings()
    assert holder.settings() == before
    generator.random()
    assert hash(tuple(holder.settings())) != hash(tuple(before))


@pytest.mark.parametrize(
    "kind",
    [list, tuple, set, frozenset, lambda parts: {"a": [*parts]}, lambda p: SimpleNamespace(a=p)],
    ids=["list", "tuple", "set", "frozen set", "dictionary", "namespace"],
)
def test_the_owner_of_a_tensor_in_a_container_is_named(kind):
    model, inside = Linear(), torch.ones(2)
    model.kept = kind([inside, torch.zeros(2)])
    holder = Holder(model, ())
    assert holder.owner(inside) == "in Linear.kept"
    assert holder.owner(torch.ones(2)) is None
