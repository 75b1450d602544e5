"""Models with global latents under Pyro's guides: numbers as Pyro's, and refusals by name."""

import copy
import math
import pickle

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from torch import nn

from experiments.data import as_data
from experiments.evaluation.ais import annealed_bound
from experiments.evaluation.bounds import encode, per_image, whole_bound
from experiments.evaluation.calibration import calibrate
from experiments.evaluation.gaps import local_elbo
from experiments.evaluation.khat import weights_of_draws
from experiments.inference.bayesian.mcmc import nuts
from experiments.inference.fit import fit
from experiments.inference.objectives import ELBO, OBJECTIVES, STL
from experiments.inference.optim import cosine
from experiments.inference.svi import SVI, Pair
from guides import GUIDES, allowed_guides
from ppl_models.batch import Batch, data_plate
from ppl_models.program import Program
from ppl_models.sites import describe

GLOBAL = ("auto_delta", "auto_normal", "auto_multivariate_normal", "auto_low_rank", "auto_iaf")
N = 8


class Line(Program):
    """w ~ N(0, I), s ~ HalfNormal, x_n ~ N(w + c, s^2): global latents alone."""

    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Parameter(torch.tensor(0.5))

    def forward(self, batch: Batch):
        w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        s = pyro.sample("s", dist.HalfNormal(torch.tensor(1.0)))
        with data_plate(batch):
            x = dist.Normal(w + self.c, s.unsqueeze(-1)).to_event(1)
            return pyro.sample("x", x, obs=batch.x)


class Schools(Program):
    """Eight schools, non-centred (Rubin 1981): global mu and tau, an effect of every school."""

    def __init__(self) -> None:
        super().__init__()
        errors = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
        self.register_buffer("errors", errors.unsqueeze(-1))

    def forward(self, batch: Batch):
        mu = pyro.sample("mu", dist.Normal(0.0, torch.tensor(5.0)))
        tau = pyro.sample("tau", dist.HalfCauchy(torch.tensor(5.0)))
        with data_plate(batch):
            eta = pyro.sample("eta", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            effect = mu.unsqueeze(-1) + tau.unsqueeze(-1) * eta
            x = dist.Normal(effect, self.errors[batch.index]).to_event(1)
            return pyro.sample("x", x, obs=batch.x)


MODELS = {"line": (Line, 3), "schools": (Schools, 1)}
EFFECTS = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0], dtype=torch.float64)


def pair(kind, name, **options):
    torch.manual_seed(0)
    model_class, dim = MODELS[kind]
    model = model_class()
    return model, GUIDES[name](model, **options).for_data(N), torch.randn(N, dim)


def loss(objective, model, guide, batch):
    torch.manual_seed(1)
    return objective.loss(model, guide, batch)


def test_describe_tells_global_latents_from_those_of_every_datum():
    assert describe(Line()).of_all_data == ("w", "s")
    assert describe(Schools()).of_all_data == ("mu", "tau")
    for model in (Line(), Schools()):
        assert allowed_guides(model) == GLOBAL


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("name", GLOBAL)
def test_losses_are_pyros(kind, name):
    model, guide, x = pair(kind, name)
    index = torch.tensor([6, 1, 3])
    for batch in (Batch.of(x), Batch(x[index], index, N)):
        for particles in (1, 3):
            options = {"vectorize_particles": True, "max_plate_nesting": 1}
            want = loss(Trace_ELBO(particles, **options), model, guide, batch)
            for objective in ("elbo", "stl", "elbo_analytic_kl"):
                found = loss(OBJECTIVES[objective](particles), model, guide, batch)
                assert found == pytest.approx(want, rel=1e-9), objective
    assert len(pyro.get_param_store()) == 0


@pytest.mark.parametrize("name", [name for name in GLOBAL if name != "auto_normal"])
def test_minibatches_add_up_to_all_rows(name):
    """At one draw of all latents, in one vector, the bound of all rows is the mean over parts."""
    model, guide, x = pair("schools", name)
    whole = loss(ELBO(), model, guide, Batch.of(x))
    index = torch.randperm(N).split(2)
    parts = [loss(ELBO(), model, guide, Batch(x[rows], rows, N)) for rows in index]
    assert whole == pytest.approx(sum(parts) / 4, rel=1e-8)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("name", GLOBAL)
def test_a_pair_is_a_module_like_others(kind, name, as_traced):
    model, guide, x = pair(kind, name)
    batch = Batch.of(x)
    svi = SVI(model, guide)
    for _ in range(3):
        svi.step(batch)
    want = loss(ELBO(), model, guide, batch)
    _, fresh, _ = pair(kind, name)
    fresh.load_state_dict(guide.state_dict())
    fresh.model.load_state_dict(model.state_dict())
    assert loss(ELBO(), fresh.model, fresh, batch) == want
    whole = Pair(model, guide)
    for twin in (copy.deepcopy(whole), pickle.loads(pickle.dumps(whole))):
        assert loss(ELBO(), twin.model, twin.guide, batch) == want
    assert not {id(p) for p in guide.parameters()} & {id(p) for p in model.parameters()}
    found = []
    for compile in (False, True):
        p, q, _ = pair(kind, name)
        svi = SVI(p, q, compile=compile)
        torch.manual_seed(2)
        found.append([svi.step(batch).item() for _ in range(3)])
    assert svi.compiled.reasons == []
    assert found[0] == pytest.approx(found[1], rel=1e-9)


def test_pyros_own_svi_trains_it_with_our_gradient():
    for name in GLOBAL:
        model, guide, x = pair("line", name)
        trained = copy.deepcopy(Pair(model, guide))
        with pyro.get_param_store().scope():
            sgd = pyro.optim.SGD({"lr": 1.0})
            torch.manual_seed(1)
            pyro.infer.SVI(trained.model, trained.guide, sgd, Trace_ELBO()).step(Batch.of(x))
        torch.manual_seed(1)
        ELBO().differentiable_loss(model, guide, Batch.of(x)).backward()
        after = dict(trained.named_parameters())
        for parameter, value in Pair(model, guide).named_parameters():
            torch.testing.assert_close(value - after[parameter], value.grad)


class Mean(Program):
    """w ~ N(0, I), x_n ~ N(w, 1): the posterior and the evidence are known."""

    def forward(self, batch: Batch):
        w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with data_plate(batch):
            return pyro.sample("x", dist.Normal(w, 1.0).to_event(1), obs=batch.x)


@pytest.mark.parametrize("name", ["auto_normal", "auto_multivariate_normal", "auto_low_rank"])
def test_the_bound_of_all_data_reaches_a_known_evidence(name):
    model, x = Mean(), torch.randn(20, 2) + 1
    guide = GUIDES[name](model)
    svi = SVI(model, guide, torch.optim.Adam(guide.parameters(), 0.05), STL(4))
    rate = torch.optim.lr_scheduler.LinearLR(svi.optimizers[0], 1.0, 0.01, 400)
    for _ in range(400):
        svi.step(Batch.of(x))
        rate.step()
    C = torch.eye(20) + 1
    want = dist.MultivariateNormal(torch.zeros(20), C).log_prob(x.mT).sum() / 20
    found, error = whole_bound(model, guide, as_data(x).like(model))
    assert found == pytest.approx(want.item(), abs=5 * error + 1e-3)
    by_parts, error = whole_bound(model, guide, as_data(x).like(model), 400, memory=6e-7)
    assert by_parts == pytest.approx(want.item(), abs=5 * error + 1e-3)
    assert error > 1e-3  # parts have latents of their own


def test_what_is_of_every_datum_by_itself_refuses_global_latents_by_name():
    for kind, latent in (("line", "w"), ("schools", "mu")):
        model, guide, x = pair(kind, "auto_normal")
        batch, data = Batch.of(x), as_data(x).like(model)
        for objective in ("iwae", "dreg", "renyi"):
            with pytest.raises(ValueError, match=f"'{latent}' is global: it has no importance"):
                OBJECTIVES[objective](2).loss(model, guide, batch)
        with pytest.raises(ValueError, match="elbo_free_bits needs a KL per datum"):
            OBJECTIVES["elbo_free_bits"]().loss(model, guide, batch)
        for use in (
            lambda m, g, d: per_image(m, g, d, 3),
            lambda m, g, d: weights_of_draws(m, g, d, 30),
            local_elbo,
            lambda m, g, d: calibrate(m, g, 10),
            lambda m, g, d: annealed_bound(m, g, Batch.of(d.observations()), 2, 2, 1),
            lambda m, g, d: encode(g, Batch.of(d.observations()), m),
        ):
            with pytest.raises(ValueError, match=f"'{latent}' of .* is a global latent"):
                use(model, guide, data)
        for name in ("mean_field", "point", "amortized"):
            with pytest.raises(ValueError, match=f"'{latent}' is global.*auto_normal|one vector"):
                GUIDES[name](model)


def test_rows_of_other_data_are_refused():
    _, guide, x = pair("schools", "auto_multivariate_normal")
    rows = torch.arange(4)
    with pytest.raises(ValueError, match=r"latents for 8 rows.*for_data\(4\)"):
        guide(Batch(x[:4], rows, 4))
    assert guide.for_data(4)(Batch(x[:4], rows, 4))["eta"].shape == (4, 1)
    with pytest.raises(ValueError, match=r"keep a matrix of 10003 x 10003"):
        GUIDES["auto_multivariate_normal"](Wide()).for_data(10_001)


class Wide(Schools):
    def forward(self, batch: Batch):
        mu = pyro.sample("mu", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(z + mu.sum(-1), 1.0).to_event(1), obs=batch.x)


class Elsewhere(Program):
    def __init__(self, prior) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, batch: Batch):
        w = pyro.sample("w", dist.Gamma(torch.tensor(2.0), 1.0))
        v = pyro.sample("v", self.prior(w))
        with data_plate(batch):
            return pyro.sample("x", dist.Normal(w + v, 1.0), obs=batch.x)


@pytest.mark.parametrize(
    ("prior", "why"),
    [
        (lambda w: dist.Uniform(torch.tensor(0.0), w), "support is fixed; that of 'v'"),
        (lambda w: dist.VonMises(torch.tensor(0.0), 1.0), "no coordinates for 'v' .VonMises"),
        (lambda w: dist.Poisson(torch.tensor(1.0)), "'v' .Poisson. has none"),
    ],
)
def test_supports_that_pyros_guides_would_miss_are_refused(prior, why):
    for name in GLOBAL:
        with pytest.raises(ValueError, match=why):
            GUIDES[name](Elsewhere(prior))


@pytest.mark.slow
def test_eight_schools_under_nuts_and_a_gaussian():
    """Reference draws: mu 4.41 with standard deviation 3.3, tau 3.60 with 3.2."""
    model, x = Schools(), EFFECTS.unsqueeze(-1)
    chains = nuts(model, Batch.of(x), 400, 200, 1, progress=False)
    mu, tau = chains.draws["mu"].flatten(), chains.draws["tau"].flatten()
    # a draw is worth about a half of an independent one
    assert mu.mean().item() == pytest.approx(4.41, abs=4 * 3.3 / math.sqrt(200))
    assert tau.mean().item() == pytest.approx(3.60, abs=4 * 3.2 / math.sqrt(200))
    guide = GUIDES["auto_multivariate_normal"](model).for_data(N)
    svi = SVI(model, guide, torch.optim.Adam(guide.parameters(), 0.1), ELBO(2))
    for _ in fit(svi, x, 500, N, schedule=cosine()):
        pass
    with torch.no_grad():
        drawn = [guide(Batch.of(x)) for _ in range(1000)]
    assert torch.stack([d["mu"] for d in drawn]).mean().item() == pytest.approx(4.41, abs=0.6)
    assert torch.stack([d["tau"] for d in drawn]).mean().item() == pytest.approx(3.60, abs=1.2)
