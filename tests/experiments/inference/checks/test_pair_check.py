"""A pair is checked on its first batch: what would give a wrong number is refused by name."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule, PyroParam
from torch import nn

from experiments.data import as_data
from experiments.evaluation.ais import annealed_bound
from experiments.evaluation.bounds import per_image
from experiments.evaluation.calibration import calibrate
from experiments.evaluation.khat import weights_of_draws
from experiments.inference.fit import fit
from experiments.inference.objectives import OBJECTIVES
from experiments.inference.svi import SVI
from guides import GUIDES
from ppl_models import Batch
from ppl_models.batch import data_plate
from ppl_models.program import Program
from ppl_models.sites import describe

D = 2
X = 0.5 * torch.randn(40, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Story(Program):
    """z ~ N(0, I), x ~ N(z + a, I), as its subclasses bend it."""

    prior = staticmethod(lambda: dist.Normal(torch.zeros(D), 1.0).to_event(1))

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.zeros(()))

    def plate(self, batch):
        return data_plate(batch)

    def more(self, batch):
        """What else the model says inside its plate."""

    def forward(self, batch):
        with self.plate(batch):
            z = pyro.sample("z", self.prior())
            self.more(batch)
            return pyro.sample("x", dist.Normal(z + self.a, 1.0).to_event(1), obs=batch.x)


class Posterior(Program):
    """q(z | x), exact for the plain story."""

    def __init__(self, sites=("z",), plate=data_plate) -> None:
        super().__init__()
        self.b = nn.Parameter(torch.zeros(()))
        self.sites, self.plate = sites, plate

    def q(self, batch):
        return dist.Normal(batch.x / 2 + self.b, 0.5**0.5).to_event(1)

    def forward(self, batch):
        with self.plate(batch):
            for name in self.sites:
                pyro.sample(name, self.q(batch))


class Forgotten(Story):
    def more(self, batch):
        pyro.sample("l", dist.Normal(torch.zeros(3), 0.05).to_event(1))


class Switch(Story):
    def more(self, batch):
        pyro.sample("c", dist.Categorical(torch.ones(3)))


class Labelled(Story):
    def more(self, batch):
        pyro.sample("y", dist.Normal(torch.zeros(D), 1.0).to_event(1), obs=batch.x)


class OwnPlate(Story):
    def plate(self, batch):
        return pyro.plate("data", len(batch.index))


class Rows(Story):
    def plate(self, batch):
        return pyro.plate("rows", len(batch.index))


class NoPlate(Story):
    def plate(self, batch):
        return pyro.poutine.scale(scale=1.0)

    prior = staticmethod(lambda: dist.Normal(torch.zeros(4, D), 1.0).to_event(1))


class HalfLine(Story):
    prior = staticmethod(lambda: dist.Exponential(torch.ones(D)).to_event(1))


class Angles(Story):
    prior = staticmethod(lambda: dist.VonMises(torch.zeros(D), 1.0).to_event(1))


class Positive(Posterior):
    def q(self, batch):
        return dist.LogNormal(batch.x + self.b, 1.0).to_event(1)


class FarFromZero(Posterior):
    """Where it draws, no draw tells a Gaussian from a density on the half line."""

    def q(self, batch):
        return dist.Normal(50 + batch.x + self.b, 0.01).to_event(1)


WRONG = {
    "forgotten": (Forgotten, Posterior(), "Posterior does not sample 'l', a latent of Forgotten"),
    "discrete": (Switch, Posterior(), "'c', a latent of Switch.*TraceEnum_ELBO"),
    "surplus": (Story, Posterior(("z", "w")), "Posterior samples 'w', which Story does not"),
    "observed": (Labelled, Posterior(("z", "y")), "samples 'y', which Labelled observes"),
    "plate": (
        OwnPlate,
        Posterior(),
        "the plate 'data' of OwnPlate has 4 of 4 rows, the batch 4 of",
    ),
    "name": (Rows, Posterior(), "plates rescale 'z' by 1 in Rows and by 10 in Posterior"),
    "no plate": (
        NoPlate,
        Posterior(),
        "(site 'z' of NoPlate has a dimension of 4 outside of|'z' of NoPlate is a global latent)",
    ),
    "negative": (HalfLine, FarFromZero(), "draws 'z' outside the support.*Exponential"),
    "angles": (Angles, FarFromZero(), "draws 'z' outside the support.*VonMises"),
    "half": (Story, Positive(), "Positive never draws 'z' where its prior in Story"),
}


def uses(model, guide, batch):
    """Everything that makes a number of a pair."""
    rows = as_data(batch.x).like(model)
    for name in ("elbo", "elbo_analytic_kl", "elbo_free_bits", "stl", "iwae", "dreg", "renyi"):
        yield lambda name=name: SVI(model, guide, loss=OBJECTIVES[name](2)).step(batch)
    yield lambda: SVI(model, guide, loss=pyro.infer.Trace_ELBO()).step(batch)
    yield lambda: SVI(model, guide, loss=pyro.infer.Trace_ELBO()).evaluate_loss(batch)
    if batch.size == len(batch.index):
        yield lambda: per_image(model, guide, rows, 3)
        yield lambda: weights_of_draws(model, guide, rows, 3)
        yield lambda: annealed_bound(model, guide, batch, 2, 2, 1)
    if batch.size == len(batch.index) and len(describe(model).latents) == 1:
        yield lambda: calibrate(model, guide, 4, 19)


@pytest.mark.parametrize("case", WRONG)
def test_what_would_be_silently_wrong_is_refused_by_name(case):
    story, guide, words = WRONG[case]
    model = story()
    for size in (4, 40):
        batch = Batch(X[:4], torch.arange(4), size)
        if size == 4 and case in ("plate", "name"):
            continue  # of the whole data set both scales are one
        for use in uses(model, guide, batch):
            with pytest.raises(ValueError, match=f"^.*{words}") as refusal:
                use()
            assert "\n" not in str(refusal.value)


def test_the_check_leaves_no_trace_and_is_made_once_per_kind_of_batch():
    model, guide, calls = Story(), Posterior(), []
    model.register_forward_hook(lambda *_: calls.append(1))
    svi = SVI(model, guide, loss=OBJECTIVES["elbo"]())
    torch.manual_seed(0)
    values = [svi.evaluate_loss(Batch.of(X)) for _ in range(3)]
    assert len(calls) == 4
    torch.manual_seed(0)
    for value in values:
        assert value == svi.evaluate_loss(Batch.of(X))
    svi.evaluate_loss(Batch(X, torch.arange(40), 80))
    assert len(calls) == 4 + 3 + 7  # five of them to compare the first and last row alone
    svi.evaluate_loss(Batch(X[:1], torch.arange(1), 80))
    assert len(calls) == 4 + 3 + 7 + 1  # what holds for several rows holds for one


class Shared(PyroModule):
    def __init__(self) -> None:
        super().__init__()
        self.scale = PyroParam(torch.ones(D), constraint=dist.constraints.positive)

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(D), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(z, self.scale).to_event(1), obs=batch.x)


def test_modules_of_pyro_share_nothing_with_those_of_the_same_names():
    first, second = Shared(), Shared()
    for model in (first, second):
        model(Batch.draw(3))
    guide = GUIDES["amortized"](first, hidden_dims=(3,))
    list(fit(SVI(first, guide), X, 2, batch_size=20))
    assert (second.scale == 1).all()
    assert (first.scale != 1).all()
    pairs = ((first, Posterior()), (Shared(), Posterior()))
    chains = [annealed_bound(m, q, Batch.of(X[:5]), 2, 3, 1).bound for m, q in pairs]
    assert not chains[0].equal(chains[1])
    assert (first.scale != 1).all()


def test_pyros_svi_still_trains_a_module_of_pyro():
    model, guide = Shared(), pyro.infer.autoguide.AutoNormal(Shared(), create_plates=data_plate)
    with pyro.get_param_store().scope():
        svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.1}), pyro.infer.Trace_ELBO())
        losses = [svi.step(Batch.of(X)) for _ in range(30)]
    assert (model.scale != 1).all()
    assert losses[-1] < losses[0]
