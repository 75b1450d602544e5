"""Compiled steps when buffers or parts are replaced or come late; equal gradients."""

import pyro
import pytest
import torch
from torch import nn

from experiments.inference.guard import Guard
from experiments.inference.objectives import ELBO
from experiments.inference.svi import SVI, Pair
from tests.shared.linear_pair import SOME, D, Encoder, Linear, Normed

pytestmark = pytest.mark.usefixtures("as_traced")


class Shifted(Linear):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.zeros(D))

    def mean(self, z, batch):
        return z + self.loc + self.shift


def test_a_buffer_that_is_replaced():
    losses = []
    for compile in (False, True):
        model = Shifted()
        svi = SVI(model, Encoder(), compile=compile)
        for k in range(2):
            model.shift = torch.full((D,), 5.0 * k)
            torch.manual_seed(k)
            loss = svi.step(SOME)
        losses.append(loss)
    torch.testing.assert_close(losses[1], losses[0])


class Times(nn.Module):
    factor = 1.0

    def forward(self, x):
        return self.factor * x


class Optional(Linear):
    """A shift that is set later, if at all, and parts that may be replaced or added to."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", None)
        self.part, self.times, self.away = nn.Sequential(nn.Identity()), Times(), [Times()]

    def mean(self, z, batch):
        return self.times(self.part(z + self.loc)) + (0.0 if self.shift is None else self.shift)


def take_turns(model, k):
    model.times, model.away = model.away[0], [model.times]
    if k == 0:
        model.away[0].factor = 2.0


CHANGES = {
    "a buffer that was None": lambda model, k: setattr(model, "shift", torch.full((D,), 5.0)),
    "a part in place of another": lambda model, k: setattr(
        model, "part", (nn.Tanh(), nn.Identity())[k % 2]
    ),
    "a part of a part": lambda model, k: model.part.append(nn.Tanh()),
    "a part that changed while it was away": take_turns,
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_comes_or_is_replaced_between_steps(name):
    found = []
    for compile in (False, True):
        model, losses = Optional(), []
        svi = SVI(model, Encoder(), compile=compile)
        for k in range(4):
            torch.manual_seed(k)
            losses.append(svi.step(SOME))
            CHANGES[name](model, k)
        found.append(torch.stack(losses))
    assert not svi.compiled.reasons
    torch.testing.assert_close(found[1], found[0])


def test_a_pair_that_was_moved_and_moved_back():
    """As ``pair.cpu()`` to save it, and ``pair.cuda()``: every buffer is another tensor."""
    means = []
    for compile in (False, True):
        model, guide = Linear(), Normed("z")
        svi = SVI(model, guide, compile=compile)
        svi.step(SOME)
        Pair(model, guide).float().double()
        svi.step(SOME)
        means.append(guide.norm.running_mean.clone())
    torch.testing.assert_close(means[1], means[0])
    torch.testing.assert_close(means[1], 0.19 * SOME.x.mean(0), rtol=1e-6, atol=1e-6)


class Offsets(Linear):
    """An offset in two parts, whose gradients are equal."""

    def __init__(self) -> None:
        super().__init__()
        self.more = nn.Parameter(torch.zeros(D))

    def mean(self, z, batch):
        return z + (self.loc + self.more)


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("how", ["clip", "pyro"])
def test_equal_gradients(how, compile):
    model, guide = Offsets(), Encoder().requires_grad_(False)
    torch.manual_seed(5)
    loss = ELBO().differentiable_loss(model, guide, SOME) / SOME.size
    (g,) = torch.autograd.grad(loss, [model.loc])
    if how == "clip":
        norm = 2**0.5 * g.norm()
        clip, optim = float(norm / 10), lambda parameters: torch.optim.SGD(parameters, lr=1.0)
        svi = SVI(model, guide, optim, guard=Guard(clip), compile=compile)
        step = g / 10
    else:
        svi = SVI(model, guide, pyro.optim.SGD({"lr": 1e-3}), compile=compile)
        step = 1e-3 * SOME.size * g
    torch.manual_seed(5)
    svi.step(SOME)
    torch.testing.assert_close(model.more.detach(), -step, rtol=1e-4, atol=1e-8)
    torch.testing.assert_close(model.loc.detach(), 1 - step, rtol=1e-4, atol=1e-8)


class Turned(Linear):
    """Offsets whose gradients autograd computes as views: transposed, and one number in a row."""

    def __init__(self) -> None:
        super().__init__()
        numbers = torch.Generator().manual_seed(0)
        self.table = nn.Parameter(torch.randn(D, 3, generator=numbers))
        self.rows = nn.Parameter(torch.randn(3, D, generator=numbers))

    def mean(self, z, batch):
        turned = self.table.T * torch.linspace(-1, 1, 6).reshape(3, D)
        return z + turned.sum(0) + self.rows.sum(0)


@pytest.mark.parametrize("guard", [None, Guard(0.1)], ids=["plain", "clipped"])
def test_gradients_have_the_strides_of_their_parameters(guard):
    """Adam's fused kernel takes that for granted, and clipping needs a number for every entry."""
    found = []
    for compile in (False, True):
        model = Turned()
        svi = SVI(model, Encoder(), guard=guard, compile=compile)
        for k in range(2):
            torch.manual_seed(k)
            svi.step(SOME)
        found.append((model.table.detach(), model.rows.detach()))
    assert not svi.compiled.reasons
    torch.testing.assert_close(found[1], found[0])
