"""Parameters lie in modules: strays in Pyro's store are refused by name, others are trained."""

import copy

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.nn import PyroModule, PyroParam
from torch.distributions import constraints

from experiments.data import as_data
from experiments.evaluation.bounds import encode, per_image, reconstruct
from experiments.inference.fit import fit
from experiments.inference.objectives import OBJECTIVES
from experiments.inference.svi import SVI
from guides import GUIDES, Guide
from ppl_models.batch import Batch, data_plate
from ppl_models.program import Program
from ppl_models.sites import describe

D = 4


@pytest.fixture(autouse=True)
def _empty_store():
    with pyro.get_param_store().scope():
        yield


def story(model, batch):
    """z ~ N(0, I_2), x ~ N(W z, sigma^2)."""
    sigma = model.sigma()
    with data_plate(batch):
        z = pyro.sample("z", dist.Normal(model.W.new_zeros(2), 1.0).to_event(1))
        return pyro.sample("x", dist.Normal(z @ model.W.mT, sigma).to_event(1), obs=batch.x)


class Plain(Program):
    forward = story

    def __init__(self):
        super().__init__()
        self.W = torch.nn.Parameter(torch.randn(D, 2))
        self.log_sigma = torch.nn.Parameter(torch.tensor(0.5))
        self.decoder = torch.nn.Linear(2, D)

    def sigma(self):
        return self.log_sigma.exp()


class Stray(Plain):
    def sigma(self):
        return pyro.param("sigma", torch.tensor(5.0), constraint=constraints.positive)


class StrayWithoutStart(Plain):
    def sigma(self):
        return pyro.param("sigma")


class StrayModule(Plain):
    """Its network is known to Pyro's store alone."""

    def __init__(self):
        super().__init__()
        self.elsewhere = [torch.nn.Linear(2, 1)]

    def sigma(self):
        pyro.module("net", self.elsewhere[0])
        return self.log_sigma.exp()


class StrayOfOwn(Plain):
    """The store would hold log sigma, made of an own parameter's first value."""

    def sigma(self):
        return pyro.param("sigma", self.log_sigma, constraint=constraints.positive)


class Registered(Plain):
    def sigma(self):
        pyro.module("decoder", self.decoder)
        pyro.module("all", self)
        return pyro.param("log_sigma", self.log_sigma).exp()


class Constrained(PyroModule):
    vectorises = True
    forward = story

    def __init__(self):
        super().__init__()
        self.W = torch.nn.Parameter(torch.randn(2, D).mT)  # not contiguous
        self.s = PyroParam(torch.tensor(1.6), constraint=constraints.positive)

    def sigma(self):
        return self.s


STRAYS = {"sigma": (Stray, StrayWithoutStart, StrayOfOwn), "net.weight": (StrayModule,)}


@pytest.mark.parametrize(
    ("name", "model"), [(name, model) for name, models in STRAYS.items() for model in models]
)
@pytest.mark.parametrize("known_to_the_store", [False, True])
def test_a_models_stray_parameter_is_refused_by_name(name, model, known_to_the_store):
    if known_to_the_store:  # of a run under pyro.infer.SVI, say
        pyro.param("sigma", torch.tensor(2.0), constraint=constraints.positive)
    before = dict(pyro.get_param_store().named_parameters())
    for use in (
        describe,
        GUIDES["amortized"],
        GUIDES["mean_field"],
        as_data(torch.zeros(3, D)).like,
    ):
        with pytest.raises(
            ValueError, match=rf"'{name}' is not a parameter of {model.__name__}.*\.$"
        ):
            use(model())
    after = dict(pyro.get_param_store().named_parameters())
    assert {key: id(value) for key, value in after.items()} == {
        key: id(value) for key, value in before.items()
    }


class StrayGuide(Guide):
    def forward(self, batch):
        loc = pyro.param("loc", torch.zeros(2))
        with data_plate(batch):
            return pyro.sample("z", dist.Normal(loc, 1.0).to_event(1))


@pytest.mark.parametrize("objective", ["elbo", "elbo_analytic_kl", "stl", "iwae", "dreg", "renyi"])
def test_a_guides_stray_parameter_is_refused_in_training_and_in_evaluation(objective):
    x, model = torch.randn(6, D), Plain()
    guide, batch = StrayGuide(model), Batch.of(x)
    svi = SVI(model, guide, torch.optim.SGD(model.parameters(), 0.1), OBJECTIVES[objective]())
    data = as_data(x).like(model)
    for use in (
        lambda: svi.step(batch),
        lambda: svi.evaluate_loss(batch),
        lambda: per_image(model, guide, data, 3),
        lambda: encode(guide, batch, model),
        lambda: reconstruct(model, guide, batch),
    ):
        with pytest.raises(ValueError, match="'loc' is not a parameter of"):
            use()
    assert not len(pyro.get_param_store())


class PlainGuide(Guide):
    def __init__(self, model):
        super().__init__(model)
        self.net = torch.nn.Linear(D, 2)

    def forward(self, batch):
        pyro.module("encoder", self.net)
        with data_plate(batch):
            return pyro.sample("z", dist.Normal(self.net(batch.x), 1.0).to_event(1))


@pytest.mark.parametrize("model", [Plain, Registered, Constrained])
@pytest.mark.parametrize("guide", [PlainGuide, GUIDES["amortized"]])
def test_what_modules_hold_is_accepted_and_trained(model, guide):
    torch.manual_seed(0)
    x = 0.1 * torch.randn(40, D)
    p = model()
    q = guide(p)
    moved = [*p.parameters(), *q.parameters()]
    svi = SVI(p, q, torch.optim.Adam(moved, 0.05))
    sigma = float(p.sigma().detach())
    for _ in fit(svi, x, epochs=40, batch_size=20):
        pass
    assert float(p.sigma().detach()) < 0.75 * sigma
    assert [id(parameter) for parameter in (*p.parameters(), *q.parameters())] == [*map(id, moved)]


@pytest.mark.parametrize("model", [Registered, Constrained])
def test_two_pairs_do_not_share_what_has_one_name(model):
    """In Pyro's store both would be one: the first to run would set the other's parameters."""
    torch.manual_seed(0)
    x = torch.randn(8, D)
    first = model()
    second = copy.deepcopy(first)
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.add_(1.0)
    values = [parameter.clone() for parameter in second.parameters()]
    for p in (first, second):
        q = GUIDES["amortized"](p)
        with poutine.block():
            SVI(p, q, torch.optim.SGD(q.parameters(), 0.1)).step(Batch.of(x))
        per_image(p, q, as_data(x).like(p), 2)
        reconstruct(p, q, Batch.of(x))
    for parameter, value in zip(second.parameters(), values, strict=True):
        assert torch.equal(parameter, value)
    assert not len(pyro.get_param_store())


def test_parameters_that_are_frozen_stay_so():
    p = Constrained().requires_grad_(False)
    q = GUIDES["amortized"](p)
    SVI(p, q, torch.optim.SGD(q.parameters(), 0.1)).step(Batch.of(torch.randn(8, D)))
    assert not any(parameter.requires_grad for parameter in p.parameters())


def test_pyros_svi_still_finds_parameters_in_its_store():
    p = Plain()
    q = GUIDES["amortized"](p)
    svi = pyro.infer.SVI(p, q, pyro.optim.Adam({"lr": 0.01}), OBJECTIVES["elbo"]())
    before = p.W.detach().clone()
    svi.step(Batch.of(torch.randn(8, D)))
    assert len(pyro.get_param_store())
    assert not torch.equal(p.W, before)
