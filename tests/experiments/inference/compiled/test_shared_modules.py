"""Modules that model and guide share, and state beside parameters and buffers."""

import pyro
import pytest
import torch
from torch import nn

from experiments.inference.compiled import CompileWarning
from experiments.inference.objectives import OBJECTIVES
from experiments.inference.svi import SVI
from ppl_models import Batch
from tests.shared.linear_pair import D, Decoder, Encoder, Linear, X

pytestmark = pytest.mark.usefixtures("as_traced")


class Sharing(Encoder):
    """A guide that registers a module of the model under a name of its own."""

    def __init__(self, model) -> None:
        super().__init__()
        self.also = model.decoder


@pytest.mark.parametrize("loss", [pyro.infer.RenyiELBO(0.5), pyro.infer.TraceGraph_ELBO()])
def test_shared_gradients_are_divided_once_under_losses_of_pyro(loss):
    found = []
    for guide_of in (lambda model: Encoder(), Sharing):
        torch.manual_seed(0)
        model = Decoder()
        guide = guide_of(model)
        both = dict.fromkeys([*model.parameters(), *guide.parameters()])
        svi = SVI(model, guide, torch.optim.SGD(both, lr=1.0), loss=loss)
        before = model.decoder.weight.detach().clone()
        torch.manual_seed(1)
        svi.step(Batch.of(X))
        found.append(model.decoder.weight.detach() - before)
    torch.testing.assert_close(*found)


def test_pyros_optimizers_know_what_is_shared_by_its_name_in_the_guide():
    """Saved states have these names, and rates may depend on them."""
    asked = []

    def rate(name):
        asked.append(name)
        return {"lr": 0.01}

    model = Decoder()
    svi = SVI(model, Sharing(model), pyro.optim.Adam(rate))
    names = ["model.loc", "guide.also.weight", "guide.also.bias", "guide.width"]
    assert asked == list(svi.state_dict()["optimizers"][0]) == names


def test_a_graph_of_shared_modules_trains_the_model():
    ends = []
    for compile in (False, True):
        torch.manual_seed(0)
        model = Decoder()
        svi = SVI(model, Sharing(model), loss=OBJECTIVES["elbo"](), compile=compile)
        torch.manual_seed(1)
        for _ in range(5):
            svi.step(Batch.of(X))
        assert isinstance(model.decoder.bias, nn.Parameter)
        assert not compile or not svi.compiled.reasons
        ends.append(model.decoder.bias.detach().clone())
    torch.testing.assert_close(*ends)


class Counting(Linear):
    """A running mean kept in an attribute that is no buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.running = torch.zeros(D)

    def mean(self, z, batch):
        if batch.x is not None:
            self.running = 0.9 * self.running + 0.1 * batch.x.detach().mean(0)
        return z + self.loc + self.running


class Setting:
    def __init__(self) -> None:
        self.factor = 1.0


class WithSetting(Linear):
    """A number in an object of the user's."""

    def __init__(self) -> None:
        super().__init__()
        self.setting = Setting()

    def mean(self, z, batch):
        return z + self.setting.factor * self.loc


def test_state_that_a_graph_does_not_see():
    with pytest.warns(CompileWarning, match="the attribute running is read and replaced"):
        SVI(Counting(), Encoder(), compile=True).step(Batch.of(X))
    losses = []
    for compile in (False, True):
        model = WithSetting()
        svi = SVI(model, Encoder(), compile=compile)
        torch.manual_seed(0)
        svi.step(Batch.of(X))
        model.setting.factor = 7.0
        losses.append(svi.step(Batch.of(X)))
    torch.testing.assert_close(*losses)


class Recurrent(Linear):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(D, D)

    def mean(self, z, batch):
        return z + self.lstm(z.unsqueeze(0))[0].squeeze(0)


def test_an_operation_that_the_compiler_lacks_is_eager():
    with pytest.warns(CompileWarning, match="the compiler does not know torch's LSTM"):
        SVI(Recurrent().float(), Encoder().float(), compile=True).step(Batch.of(X.float()))
