"""Guides in unconstrained coordinates: PPCA behind a transform, and conjugate evidences."""

import copy
import itertools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.distributions.transforms import (
    AffineTransform,
    ComposeTransform,
    ExpTransform,
    SigmoidTransform,
    StickBreakingTransform,
)

from experiments.data import as_data
from experiments.evaluation.aggregate import aggregate_figures
from experiments.evaluation.ais import annealed_bound
from experiments.evaluation.bounds import encode, per_image
from experiments.evaluation.calibration import calibrate
from experiments.evaluation.gaps import local_elbo
from experiments.evaluation.khat import khat, weights_of_draws
from experiments.inference.fit import fit
from experiments.inference.frozen import held_out
from experiments.inference.objectives import OBJECTIVES
from experiments.inference.svi import SVI
from guides import GUIDES, allowed_guides
from guides.latents import vector_latent
from ppl_models import PPCA
from ppl_models.batch import Batch, data_plate
from ppl_models.program import Program
from ppl_models.sites import describe

D, K, N = 5, 2, 12
SMALL = {"hidden_dims": (5,)}
FAMILIES = {
    "point": {},
    "mean_field": {},
    "full_rank": {},
    "amortized": {**SMALL, "covariance": "full"},
    "flow": {**SMALL, "context": 3, "width": 6},
    "mixture": {**SMALL, "components": 3},
    "semi_amortized": {**SMALL, "steps": 2},
}
TRANSFORMS = {
    "positive": ExpTransform(),
    "unit interval": SigmoidTransform(),
    "from -1 to 3": [SigmoidTransform(), AffineTransform(-1.0, torch.tensor([4.0, 4.0]))],
    "above 2": [ExpTransform(), AffineTransform(2.0, 0.5)],
    "simplex": StickBreakingTransform(),
    "ordered": dist.transforms.OrderedTransform(),
}


class Behind(Program):
    """PPCA whose latents are seen through a transform."""

    def __init__(self, flat: PPCA, transform) -> None:
        super().__init__()
        self.flat = flat
        self.chain = transform if isinstance(transform, list) else [transform]

    def forward(self, batch: Batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.TransformedDistribution(self.flat.prior(), self.chain))
            e = ComposeTransform(self.chain).inv(z)
            return pyro.sample("x", self.flat.likelihood(e), obs=batch.x)


def both(transform, guide):
    """PPCA and the same model behind a transform, each under a guide with the same parameters."""
    torch.manual_seed(0)
    flat = PPCA(D, K)
    bent = Behind(flat, TRANSFORMS[transform])
    pairs = []
    for model in (flat, bent):
        torch.manual_seed(1)
        q = GUIDES[guide](model, **FAMILIES[guide]).for_data(N)
        for parameter in q.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)
        pairs.append((model, q))
    return pairs


def one_step(model, guide, flat, objective, batch):
    """The loss, and the gradients of PPCA's parameters and the guide's."""
    torch.manual_seed(2)
    loss = OBJECTIVES[objective](1 if objective == "log_joint" else 3)
    value = loss.differentiable_loss(model, guide, batch)
    parameters = [*flat.parameters(), *guide.parameters()]
    return value, *torch.autograd.grad(value, parameters, materialize_grads=True)


@pytest.mark.parametrize("guide", FAMILIES)
def test_behind_a_transform_every_objective_is_that_of_ppca(guide):
    own = GUIDES[guide].objective
    names = ["elbo", "stl", "iwae", "dreg", "renyi"] if own == "elbo" else [own]
    index = torch.tensor([1, 4, 5, 8, 11])
    batch = Batch(torch.randn(5, D), index, N)
    for transform, objective in itertools.product(TRANSFORMS, names):
        (flat, plain), (bent, pushed) = both(transform, guide)
        want = one_step(flat, plain, flat, objective, batch)
        found = one_step(bent, pushed, flat, objective, batch)
        if guide == "point":  # the density of z itself: without the map's volume
            z = pushed(batch)["z"]
            chain = ComposeTransform(bent.chain)
            volume = chain.log_abs_det_jacobian(chain.inv(z), z)
            volume = volume.sum(-1) if volume.ndim > 1 else volume
            want = (want[0] + volume.sum() * N / 5,)
        for one, other in zip(found, want, strict=False):
            message = f"{objective} behind {transform}"
            torch.testing.assert_close(
                one, other, rtol=1e-8, atol=1e-8, msg=lambda m, w=message: f"{w}: {m}"
            )


def test_closed_forms_are_left_where_the_support_is_the_real_line():
    model = PPCA(D, K)
    guide = GUIDES["amortized"](model)
    assert type(guide.of(torch.zeros(3, 2 * K))) is dist.Independent
    svi = SVI(model, guide, loss=OBJECTIVES["elbo_analytic_kl"](1))
    svi.step(Batch.of(torch.randn(4, D)))
    assert svi.objective.sampled_sites == []
    _, (bent, pushed) = both("positive", "amortized")
    svi = SVI(bent, pushed, loss=OBJECTIVES["elbo_analytic_kl"](1))
    svi.step(Batch.of(torch.randn(4, D)))
    assert svi.objective.sampled_sites == ["z"]


class Exact(Program):
    """The posterior of PPCA, in coordinates."""

    def __init__(self, bent: Behind) -> None:
        super().__init__()
        self.bent = bent
        self.site, self.coordinates = vector_latent(bent, "exact")

    def forward(self, batch: Batch):
        with data_plate(batch):
            return pyro.sample(self.site, self.coordinates.push(self.bent.flat.posterior(batch.x)))


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_evaluation_of_the_posterior_gives_the_evidence(transform):
    torch.manual_seed(0)
    flat = PPCA(D, K)
    model = Behind(flat, TRANSFORMS[transform]).requires_grad_(False)
    guide = Exact(model)
    x = model(Batch.draw(8))
    data, want = as_data(x).like(model), flat.marginal().log_prob(x).detach()
    values = per_image(model, guide, data, 7)
    for name in ("elbo", "iw_bound"):
        torch.testing.assert_close(values[name], want)
    assert (khat(weights_of_draws(model, guide, data, 50)) == 0).all()
    chains = annealed_bound(model, guide, Batch.of(x), 3, 4, 2)
    torch.testing.assert_close(chains.bound, want)
    # the centre: where the mean of the coordinates is carried
    loc = flat.posterior(x).mean.detach()
    torch.testing.assert_close(encode(guide, Batch.of(x), model)["z"], guide.coordinates.at(loc))
    shown = flat.likelihood(loc).mean
    torch.testing.assert_close(values["squared_error"], (x - shown).square().sum(1).detach())
    assert calibrate(model, guide, 600, 99).passed
    counted = aggregate_figures(model, guide, data)["active_units"]
    assert counted == int((loc.var(0) > 0.01).sum())


@pytest.mark.parametrize("guide", ["amortized", "flow", "mixture"])
def test_behind_a_transform_local_steps_and_annealing_are_those_of_ppca(guide):
    x, found = torch.randn(4, D), []
    for model, q in both("from -1 to 3", guide):
        torch.manual_seed(3)
        best = local_elbo(model, q, as_data(x).like(model), 20, most=50).elbo
        chains = annealed_bound(model, q, Batch.of(x), 3, 5, 2)
        found.append((best, chains.log_weights))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


R = 6
"""Observations of every datum."""


class Conjugate(Program):
    """A latent whose evidence is known: z ~ prior, R observations given z."""

    def __init__(self, prior, likelihood, evidence) -> None:
        super().__init__()
        self.prior, self.likelihood, self.evidence = prior, likelihood, evidence

    def forward(self, batch: Batch):
        with data_plate(batch):
            z = pyro.sample("z", self.prior())
            return pyro.sample("x", self.likelihood(z), obs=batch.x)


def poisson(x):
    """Gamma(3, 2) and R counts: log Gamma(3 + s) / Gamma(3) 2^3 / (2 + R)^(3 + s) / prod x!"""
    s = x.sum(-1)
    a, b = torch.tensor(3.0), torch.tensor(2.0)
    return (
        (a + s).lgamma()
        - a.lgamma()
        + a * b.log()
        - (a + s) * (b + R).log()
        - (x + 1).lgamma().sum(-1)
    )


def bernoulli(x):
    a, b, s = torch.tensor(2.0), torch.tensor(1.5), x.sum(-1)
    log_beta = (a + s).lgamma() + (b + R - s).lgamma() - (a + b + R).lgamma()
    return log_beta - a.lgamma() - b.lgamma() + (a + b).lgamma()


ALPHA = torch.tensor([1.5, 2.0, 3.0], dtype=torch.float64)


def multinomial(x):
    n = x.sum(-1)
    of_z = (ALPHA + x).lgamma().sum(-1) - (ALPHA.sum() + n).lgamma()
    of_prior = ALPHA.sum().lgamma() - ALPHA.lgamma().sum()
    return of_z + of_prior + (n + 1).lgamma() - (x + 1).lgamma().sum(-1)


def truncated(low, high, weight):
    """x_r ~ N(z, 1), z from ``weight`` times a normal or a constant, on [low, high]: on a grid."""

    def evidence(x):
        z = torch.linspace(low, high, 20001)
        inside = dist.Normal(z, 1.0).log_prob(x.unsqueeze(-1)).sum(-2) + weight(z)
        halves = torch.tensor([0.5, *[1.0] * 19999, 0.5]).log()  # the trapezoidal rule
        return (inside + halves).logsumexp(-1) + math.log((high - low) / 20000)

    return evidence


CONJUGATE = {
    "gamma": (
        lambda: dist.Gamma(torch.tensor([3.0]), 2.0).to_event(1),
        lambda z: dist.Poisson(z.expand(*z.shape[:-1], R)).to_event(1),
        poisson,
    ),
    "beta": (
        lambda: dist.Beta(torch.tensor([2.0]), 1.5).to_event(1),
        lambda z: dist.Bernoulli(z.expand(*z.shape[:-1], R)).to_event(1),
        bernoulli,
    ),
    "dirichlet": (
        lambda: dist.Dirichlet(torch.tensor([1.5, 2.0, 3.0])),
        lambda z: dist.Multinomial(R, probs=z),
        multinomial,
    ),
    "half-normal": (
        lambda: dist.HalfNormal(torch.tensor([1.5])).to_event(1),
        lambda z: dist.Normal(z.expand(*z.shape[:-1], R), 1.0).to_event(1),
        truncated(0.0, 10.0, dist.HalfNormal(1.5).log_prob),
    ),
    "uniform": (
        lambda: dist.Uniform(torch.tensor([-1.0]), 2.0).to_event(1),
        lambda z: dist.Normal(z.expand(*z.shape[:-1], R), 1.0).to_event(1),
        truncated(-1.0, 2.0, lambda z: torch.full_like(z, -math.log(3.0))),
    ),
}


def conjugate(name):
    torch.manual_seed(0)
    model = Conjugate(*CONJUGATE[name])
    return model, model(Batch.draw(10))


@pytest.mark.parametrize("name", CONJUGATE)
def test_the_best_bound_lies_below_a_known_evidence_and_its_weights_average_to_it(name):
    model, x = conjugate(name)
    data, want = as_data(x).like(model), model.evidence(x)
    guide = held_out(model, GUIDES["full_rank"](model, local_steps=300), data)
    log_w = weights_of_draws(model, guide, data, 20_000)
    elbo, error = log_w.mean(1), log_w.std(1) / 20_000**0.5
    assert (elbo < want + 5 * error).all()
    assert (want - elbo).mean() < 0.1  # a Gaussian in coordinates is near each posterior
    (dim,) = guide.coordinates.shape
    with torch.no_grad():  # wide enough for the tail of every posterior
        guide.table.rows[:, dim : 2 * dim] += 1.0
    ratio = (weights_of_draws(model, guide, data, 20_000) - want[:, None]).exp()
    error = ratio.std(1) / 20_000**0.5
    assert ((ratio.mean(1) - 1).abs() < 5 * error + 1e-3).all()


@pytest.mark.parametrize("guide", ["amortized", "mixture"])
@pytest.mark.parametrize("name", ["uniform", "dirichlet"])
def test_graphs_of_steps_in_coordinates_are_eager_steps(name, guide, as_traced):
    found = []
    for compile in (False, True):
        model, x = conjugate(name)
        q = GUIDES[guide](model, **FAMILIES[guide]).for_data(len(x))
        loss = OBJECTIVES[GUIDES[guide].objective](2)
        svi = SVI(model, q, loss=loss, compile=compile)
        torch.manual_seed(1)
        found.append([progress.loss for progress in fit(svi, x, 3, 5)])
    assert svi.compiled.reasons == []
    assert found[0] == pytest.approx(found[1], rel=1e-9)


MODES = {
    "gamma": lambda x: ((3 - 1 + x.sum(-1)) / (2 + R)).unsqueeze(-1),
    "beta": lambda x: ((2 - 1 + x.sum(-1)) / (2 + 1.5 + R - 2)).unsqueeze(-1),
    "dirichlet": lambda x: (ALPHA + x - 1) / (ALPHA.sum() + R - 3),
}


@pytest.mark.parametrize("name", MODES)
def test_a_point_is_the_mode_of_z_itself(name):
    model, x = conjugate(name)
    guide = held_out(model, GUIDES["point"](model, local_steps=300), as_data(x).like(model))
    with torch.no_grad():
        found = guide(Batch.of(x))["z"]
    torch.testing.assert_close(found, MODES[name](x), atol=1e-4, rtol=0)


class From(Program):
    """z0 ~ Gamma, z ~ a prior that may depend on it and on a parameter; x about their sum."""

    def __init__(self, prior) -> None:
        super().__init__()
        self.prior, self.b = prior, nn.Parameter(torch.tensor(2.0))

    def forward(self, batch: Batch):
        with data_plate(batch):
            z0 = pyro.sample("z0", dist.Gamma(2.0, torch.ones(1)).to_event(1))
            z = pyro.sample("z", self.prior(z0, self.b))
            loc = z0 + z.flatten(z0.ndim - 1).sum(-1, keepdim=True)
            return pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=batch.x)


REFUSED = {
    "Uniform": lambda z0, b: dist.Uniform(torch.zeros(1), z0).to_event(1),
    "Uniform of b": lambda z0, b: dist.Uniform(torch.zeros(1), b).to_event(1),
    "Pareto": lambda z0, b: dist.Pareto(z0, 3.0).to_event(1),
    "ProjectedNormal": lambda z0, b: dist.ProjectedNormal(torch.zeros(3)),
    "Poisson": lambda z0, b: dist.Poisson(torch.ones(1)).to_event(1),
    "Bernoulli": lambda z0, b: dist.Bernoulli(torch.ones(1) / 2).to_event(1),
    "Wishart": lambda z0, b: dist.Wishart(torch.tensor(4.0), torch.eye(2)),
}


@pytest.mark.filterwarnings("ignore:Singular sample")  # of torch's Wishart
@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_fixed_coordinates_is_refused_by_name(name):
    model = From(REFUSED[name])
    fixed = name in ("Uniform", "Uniform of b", "Pareto")
    why = "depends on.* prior or top_down" if fixed else r"has none: take the guide prior"
    assert allowed_guides(model) == (("prior", "top_down") if fixed else ("prior",))
    for guide in ("mean_field", "point"):
        with pytest.raises(ValueError, match=rf"^{guide} needs latents .*'z' \({name[:5]}.*{why}"):
            GUIDES[guide](model)
    batch = Batch.of(torch.randn(6, 1))
    assert OBJECTIVES["iwae"](3).loss(model, GUIDES["prior"](model), batch) < math.inf


def test_a_function_of_latents_that_is_sampled_as_a_point_is_refused():
    """Any other value has no density: the loss of a guide that draws one is infinite."""
    model = From(lambda z0, b: dist.Delta(z0 * b).to_event(1))
    assert allowed_guides(model) == ("prior",)
    for guide in ("mean_field", "top_down"):
        with pytest.raises(ValueError, match=r"'z' .Delta. is a function .* pyro.deterministic"):
            GUIDES[guide](model)


def test_a_frozen_parameter_fixes_a_support():
    model = From(REFUSED["Uniform of b"]).requires_grad_(False)
    guide = GUIDES["mean_field"](model).for_data(4)
    assert guide.coordinates["z"].at(torch.tensor([50.0])) == pytest.approx(2.0)
    assert describe(model).latents == {"z0": (1,), "z": (1,)}


def test_copies_move_with_their_bounds():
    model = Conjugate(*CONJUGATE["uniform"])
    guide = GUIDES["amortized"](model, **SMALL)
    assert not any("bound" in name for name in guide.state_dict())
    twin = copy.deepcopy(guide).float()
    z = twin.of(torch.zeros(3, 2, dtype=torch.float32)).rsample()
    assert z.dtype == torch.float32
    assert ((z > -1) & (z < 2)).all()
