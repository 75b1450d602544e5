"""Discrete latents that are summed out: every number is that of the sum, written out."""

import warnings
from typing import ClassVar

import pyro
import pyro.distributions as dist
import pytest
import torch
import torch._inductor.config
from pyro.infer import Trace_ELBO, TraceEnum_ELBO
from torch import nn

from experiments.data import as_data
from experiments.evaluation.ais import annealed_bound
from experiments.evaluation.bounds import per_image, reconstruct
from experiments.evaluation.calibration import calibrate
from experiments.evaluation.gaps import local_elbo
from experiments.evaluation.khat import khat, weights_of_draws
from experiments.evaluation.metrics import evaluate, protocol
from experiments.evaluation.predictive import replicated_sets
from experiments.inference.compiled.graph import can_compile
from experiments.inference.density import density
from experiments.inference.fit import fit
from experiments.inference.handlers import TemperKL
from experiments.inference.objectives import ELBO, IWAE, OBJECTIVES, AnalyticKL, EnumeratedELBO
from experiments.inference.svi import SVI
from experiments.inference.traces import log_weights, traces
from guides import GUIDES, allowed_guides
from ppl_models import Batch
from ppl_models.batch import data_plate
from ppl_models.program import Program
from ppl_models.sites import describe
from tests.experiments.inference.objectives.discrete_models import (
    SUM,
    C,
    Classifier,
    Clusters,
    D,
    Encoder,
    Exact,
    K,
    Labels,
    Mixture,
    labelled,
)

OURS = ("elbo", "elbo_enum", "elbo_analytic_kl", "stl", "iwae", "dreg", "renyi")


def loss_and_gradients(loss, parameters):
    torch.manual_seed(5)
    value = loss()
    return value, *torch.autograd.grad(value, parameters, allow_unused=True)


def assert_same(model, guide, batch, particles, depth=1):
    """``elbo_enum`` and Pyro's TraceEnum_ELBO are one, and so are their gradients."""
    parameters = [*model.parameters(), *guide.parameters()]
    options = {"vectorize_particles": particles > 1, "max_plate_nesting": depth}
    pyros = TraceEnum_ELBO(num_particles=particles, **options)
    found = [
        loss_and_gradients(lambda e=e: e.differentiable_loss(model, guide, batch), parameters)
        for e in (EnumeratedELBO(particles), pyros)
    ]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("particles", [1, 3])
@pytest.mark.parametrize("guide", [Encoder, Classifier])
def test_the_loss_is_that_of_pyro(guide, particles):
    (x, y), index = labelled(6), torch.arange(6)
    plain, told = Batch(x, index, 30), Batch(x, index, 30, {"y": y})
    cases = [(Labels(), plain), (Labels(), told)]
    if guide is Encoder:
        cases.append((Clusters(), plain))
    for model, batch in cases:
        assert_same(model, guide(), batch, particles)


def test_labels_are_observed_where_the_batch_has_them_and_summed_out_elsewhere():
    model, guide, (x, y) = Labels(), Encoder(), labelled(6)
    for batch in (Batch.of(x), Batch.of(x, {"y": y})):
        p, q = traces(model, guide, batch)
        z = q.nodes["z"]["value"]
        joint = model.joint(x, z)
        told = (joint * y).sum(1) if batch.given else joint.logsumexp(1)
        prior = dist.Normal(torch.zeros(K), 1.0).to_event(1).log_prob(z)
        want = told + prior - q.nodes["z"]["log_prob"]
        torch.testing.assert_close(log_weights(p, q, batch), want)
    svi = SVI(model, guide)
    for _ in range(2):
        for batch in (Batch.of(x), Batch.of(x, {"y": y})):
            assert svi.step(batch).isfinite()


@pytest.mark.parametrize("family", [Clusters, Labels])
def test_under_the_posterior_every_weight_is_the_evidence(family):
    model = family()
    guide, x = Exact(model), labelled(5)[0]
    want, data = model.evidence(x), as_data(x).like(model)
    with torch.no_grad():
        for objective in (ELBO(1), ELBO(3), EnumeratedELBO(2), IWAE(4), AnalyticKL(2)):
            loss = objective.differentiable_loss(model, guide, Batch(x, torch.arange(5), 20))
            torch.testing.assert_close(-loss / 20, want.mean())
    values = per_image(model, guide, data, 7)
    for name in ("elbo", "iw_bound"):
        torch.testing.assert_close(values[name], want)
    torch.testing.assert_close(values["rate"] + values["distortion"], -want)
    weights = weights_of_draws(model, guide, data, 30)
    torch.testing.assert_close(weights, want[:, None].expand(5, 30))
    assert (khat(weights) == 0).all()
    chains = annealed_bound(model, guide, Batch.of(x), 3, 4, 2)
    torch.testing.assert_close(chains.bound, want)
    assert calibrate(model, guide, 400, 19).passed


@pytest.mark.parametrize("family", [Clusters, Labels])
def test_bounds_of_other_guides_rise_to_the_evidence(family):
    model = family()
    x = model(Batch.draw(6)).detach()
    want, data = model.evidence(x), as_data(x).like(model)
    prior = GUIDES["prior"](model)
    chains = annealed_bound(model, prior, Batch.of(x), 60, 40, 3, "prior")
    ratio = (chains.log_weights - want).exp()
    assert ((ratio.mean(0) - 1).abs() < 4 * ratio.std(0) / 60**0.5).all()
    assert (ratio.std(0) < 2).all()
    values = per_image(model, prior, data, 20_000)
    torch.testing.assert_close(values["iw_bound"], want, atol=0.2, rtol=0)
    torch.testing.assert_close(values["rate"], torch.zeros(6))
    guide = GUIDES["amortized"](model, encoder="linear", covariance="full")
    best = local_elbo(model, guide, data, 200, most=100).elbo
    assert best.mean() < want.mean()
    assert (best > per_image(model, guide, data, 100)["elbo"]).all()


def test_a_model_without_other_latents_has_its_evidence_under_the_prior():
    model, x = Mixture(), torch.randn(9, D)
    joint, guide = model.joint(x), GUIDES["prior"](model)
    want = joint.logsumexp(1).mean()
    for name in OURS:
        svi = SVI(model, guide, torch.optim.SGD(model.parameters(), 0.0), OBJECTIVES[name](2))
        torch.testing.assert_close(
            -svi.step(Batch(x[:4], torch.arange(4), 9)), joint[:4].logsumexp(1).mean()
        )
    loss = OBJECTIVES["elbo_enum"]().differentiable_loss(model, guide, Batch.of(x)) / 9
    for one, other in zip(
        torch.autograd.grad(-loss, list(model.parameters())),
        torch.autograd.grad(want, list(model.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(one, other)
    figures = evaluate(model, guide, x)
    for name in ("elbo", "log_evidence"):
        assert figures[name] == pytest.approx(want.item(), abs=1e-9)
    shown = joint.softmax(1) @ model.m
    torch.testing.assert_close(reconstruct(model, guide, Batch.of(x)), shown.detach())
    assert figures["squared_error"] == pytest.approx((x - shown).square().sum(1).mean().item())
    kind = protocol(as_data(x), guide, None)
    assert (kind["estimator"], kind["particles"]) == ("exact", 1)
    with pytest.raises(ValueError, match="nothing is left to anneal"):
        annealed_bound(model, guide, Batch.of(x), 2, 2, 1)
    with pytest.raises(ValueError, match="all of this model's are summed out"):
        calibrate(model, guide, 4, 19)
    assert allowed_guides(model) == ("prior",)
    with pytest.raises(ValueError, match="no latent to infer: all are summed out"):
        GUIDES["mean_field"](model)


def test_our_guides_infer_the_other_latents():
    for model in (Clusters(), Labels()):
        sites = describe(model)
        assert (list(sites.latents), list(sites.summed)) == (["z"], ["y"])
        vector = ("full_rank", "amortized", "flow", "mixture")
        assert set(allowed_guides(model)) == {"prior", "point", "exact", "mean_field", *vector}
        for name in set(allowed_guides(model)) - {"prior", "exact"}:
            guide = GUIDES[name](model).for_data(8)
            svi = SVI(model, guide, loss=OBJECTIVES[GUIDES[name].objective]())
            assert all(p.loss < 1e6 for p in fit(svi, labelled(8)[0], 2, batch_size=4))
            assert evaluate(model, guide, labelled(8)[0], 3)["squared_error"] > 0
        with pytest.raises(ValueError, match="semi_amortized cannot sum out y"):
            GUIDES["semi_amortized"](model)


def test_a_mixture_of_one_gaussian_has_the_elbo_of_that_gaussian():
    model, x = Clusters(), labelled(5)[0]
    guide = GUIDES["mixture"](model, components=1, hidden_dims=(4,))
    batch, found = Batch(x, torch.arange(5), 10), []
    for objective in (OBJECTIVES["miselbo"](3), ELBO(3)):
        torch.manual_seed(2)
        with torch.no_grad():
            found.append(objective.differentiable_loss(model, guide, batch))
    torch.testing.assert_close(*found)


class Both(Program):
    """y -> z and (y, z) -> x, w: a prior and a likelihood that both depend on y; a factor."""

    def __init__(self) -> None:
        super().__init__()
        self.m, self.V = nn.Parameter(torch.randn(C)), nn.Parameter(torch.randn(C))
        self.s = nn.Parameter(torch.randn(()))

    def forward(self, batch):
        with data_plate(batch):
            y = pyro.sample("y", dist.Categorical(self.m.softmax(-1)), infer=SUM)
            z = pyro.sample("z", dist.Normal(self.m[y], 0.7))
            u = pyro.sample("u", dist.Normal(z + self.V[y], 0.9))
            pyro.factor("penalty", -self.s.exp() * (u - self.V[y]).square())
            pyro.sample("w", dist.Normal(z * self.V[y], 0.4), obs=self.part(batch.x, 0))
            return pyro.sample("x", dist.Normal(self.V[y] + u, 0.5), obs=self.part(batch.x, 1))

    def part(self, x, column):
        return None if x is None else x[..., column]

    def terms(self, z, u, x):
        """log-densities at every y, ``[B, C]``, with log p(y) in the first."""
        z, u, x = z[:, None], u[:, None], x[:, None]
        told = dist.Normal(z * self.V, 0.4).log_prob(x[..., 0])
        told = told + dist.Normal(self.V + u, 0.5).log_prob(x[..., 1])
        return {
            "z": dist.Normal(self.m, 0.7).log_prob(z) + self.m.log_softmax(-1),
            "u": dist.Normal(z + self.V, 0.9).log_prob(u),
            "x": told - self.s.exp() * (u - self.V).square(),
        }


class OfBoth(Program):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.s = nn.Parameter(torch.randn(2)), nn.Parameter(torch.zeros(2))

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(batch.x[..., 0] * self.a[0], self.s[0].exp()))
            pyro.sample("u", dist.Normal(z * self.a[1], self.s[1].exp()))


def test_a_group_is_split_by_the_chain_rule():
    model, guide, x = Both(), OfBoth(), torch.randn(5, 2)
    batch = Batch(x, torch.arange(5), 15)
    p, q = traces(model, guide, batch)
    z, u = (q.nodes[name]["value"] for name in "zu")
    known, total = torch.zeros(5), torch.zeros(5, C)
    for name, term in model.terms(z, u, x).items():
        total = total + term
        torch.testing.assert_close(p.nodes[name]["log_prob"], 3 * (total.logsumexp(1) - known))
        known = total.logsumexp(1)
    assert [n for n, s in p.nodes.items() if s["type"] == "sample"] == ["z", "u", "x"]
    torch.testing.assert_close(density(model, batch)({"z": z, "u": u}), known)
    for particles in (1, 3):
        assert_same(model, guide, batch, particles)


def test_the_kl_is_that_of_the_latents_alone():
    model, guide, x = Both(), OfBoth(), torch.randn(5, 2)
    batch, losses = Batch(x, torch.arange(5), 15), {}
    for name in ("elbo", "elbo_analytic_kl", "elbo_free_bits", "elbo_enum"):
        options = {"free_bits": 0.0} if name == "elbo_free_bits" else {}
        for beta in (0.0, 0.3, 1.0):
            torch.manual_seed(1)
            with TemperKL(beta):
                objective = OBJECTIVES[name](2, **options)
                losses[name, beta] = objective.differentiable_loss(model, guide, batch)
    torch.manual_seed(1)
    p, q = traces(model, guide, batch, 2)
    told = p.nodes["x"]["log_prob_sum"] / 2
    kl = sum(t.nodes[n]["log_prob_sum"] * s for t, s in ((q, 0.5), (p, -0.5)) for n in "zu")
    for (name, beta), loss in losses.items():
        if name != "elbo_free_bits":
            torch.testing.assert_close(loss, beta * kl - told)
    torch.testing.assert_close(losses["elbo_free_bits", 0.0], -told)


class Chain(Program):
    """A hidden Markov model of T steps inside the plate of the data."""

    T = 4

    def __init__(self) -> None:
        super().__init__()
        self.A, self.m = nn.Parameter(torch.randn(C, C)), nn.Parameter(torch.randn(C))

    def forward(self, batch):
        y, rows = 0, []
        with data_plate(batch):
            for t in pyro.markov(range(self.T)):
                prior = dist.Categorical(logits=self.A[y])
                y = pyro.sample(f"y{t}", prior, infer=SUM)
                seen = None if batch.x is None else batch.x[:, t]
                name = "x" if t == self.T - 1 else f"x{t}"
                rows.append(pyro.sample(name, dist.Normal(self.m[y], 0.5), obs=seen))
        return torch.stack(rows, -1)


def test_a_chain_has_the_evidence_of_the_forward_algorithm():
    model, x = Chain(), torch.randn(6, Chain.T)
    forward = model.A[0].log_softmax(-1).expand(6, C)
    for t in range(Chain.T):
        if t:
            forward = (forward.unsqueeze(2) + model.A.log_softmax(-1)).logsumexp(1)
        forward = forward + dist.Normal(model.m, 0.5).log_prob(x[:, t, None])
    batch = Batch(x, torch.arange(6), 12)
    loss = IWAE(2).differentiable_loss(model, GUIDES["prior"](model), batch) / 12
    torch.testing.assert_close(-loss, forward.logsumexp(1).mean())


class Disagreeing(Program):
    """Two observations, each of which is all but impossible where the other is likely."""

    def __init__(self) -> None:
        super().__init__()
        self.m = nn.Parameter(torch.tensor([-40.0, 0.0, 40.0]))

    def forward(self, batch):
        with data_plate(batch):
            y = pyro.sample("y", dist.Categorical(torch.ones(C)), infer=SUM)
            seen = None if batch.x is None else 40 * torch.ones(len(batch.x))
            pyro.sample("w", dist.Normal(self.m[y], 1.0), obs=seen)
            return pyro.sample("x", dist.Normal(self.m[y], 1.0), obs=batch.x)


def test_terms_that_disagree_do_not_underflow():
    torch.set_default_dtype(torch.float32)
    model = Disagreeing()
    x = torch.tensor([-40.0, 30.0])
    told = sum(dist.Normal(model.m, 1.0).log_prob(v) for v in (x[:, None], torch.tensor(40.0)))
    want = (told - torch.tensor(3.0).log()).logsumexp(1).mean()
    loss = ELBO().differentiable_loss(model, GUIDES["prior"](model), Batch.of(x)) / 2
    torch.testing.assert_close(-loss, want)


def test_reconstructions_and_replicates_weigh_the_values_by_the_posterior():
    model, guide, x = Labels(), Encoder(), labelled(4)[0]
    batch = Batch.of(x)
    z = x @ guide.A
    weights = model.joint(x, z).softmax(1)
    shown = (z @ model.W + weights @ model.V).detach()
    torch.testing.assert_close(reconstruct(model, guide, batch), shown)
    error = per_image(model, guide, as_data(x).like(model))["squared_error"]
    torch.testing.assert_close(error, (x - shown).square().sum(1))
    model.requires_grad_(False)
    guide.s.data.fill_(-30.0)  # q is a point
    (made,) = replicated_sets(model, guide, as_data(x.repeat(1000, 1)).like(model))
    torch.testing.assert_close(made.unflatten(0, (-1, 4)).mean(0), shown, atol=0.2, rtol=0)


class Unmarked(Labels):
    MARK: ClassVar = None

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(self.W.new_zeros(K), 1.0).to_event(1))
            prior = dist.OneHotCategorical(logits=self.logits)
            y = pyro.sample("y", prior, infer=self.MARK)
            loc = z @ self.W + y @ self.V
            return pyro.sample("x", dist.Normal(loc, 0.5).to_event(1), obs=batch.x)


class Sequential(Unmarked):
    MARK: ClassVar = {"enumerate": "sequential"}


class Sampled(Unmarked):
    MARK: ClassVar = {"enumerate": "parallel", "num_samples": 5}


def test_what_is_not_summed_out_is_refused():
    batch = Batch.of(labelled(4)[0])
    for family in (Unmarked, Sequential, Sampled):
        model, guide = family(), Encoder()
        for name in OURS:
            with pytest.raises(
                ValueError, match=r"does not sample 'y'.*can be summed out: mark it"
            ):
                SVI(model, guide, loss=OBJECTIVES[name](2)).step(batch)
        for use in (per_image, weights_of_draws):
            with pytest.raises(ValueError, match="does not sample 'y'"):
                use(model, guide, as_data(batch.x).like(model), 3)
    with pytest.raises(ValueError, match="does not sample 'y'"):
        SVI(Labels(), Encoder(), loss=Trace_ELBO()).step(batch)
    model = Clusters()
    with pytest.raises(
        ValueError, match="Prior draws 'z' as its prior goes by, once for every value"
    ):
        SVI(model, GUIDES["prior"](model)).step(batch)
    with pytest.raises(
        ValueError, match=r"'y' cannot be reparametrised.*elbo_enum sums over its values"
    ):
        SVI(Labels(), Classifier(), loss=ELBO()).step(batch)
    with pytest.raises(ValueError, match="draws 'y', which does not move along the path"):
        annealed_bound(Labels(), Guessing(), batch, 2, 2, 1)


class ByName(Labels):
    """Asks for its observations by name, the labels among them."""

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(self.W.new_zeros(K), 1.0).to_event(1))
            prior = dist.OneHotCategorical(logits=self.logits)
            y = pyro.sample("y", prior, obs=batch.obs("y"), infer=SUM)
            loc = z @ self.W + y @ self.V
            return pyro.sample("x", dist.Normal(loc, 0.5).to_event(1), obs=batch.obs("x"))


class OfNames(Encoder):
    def forward(self, batch):
        return super().forward(Batch.of(batch.obs("x"))._replace(size=batch.size))


def test_a_batch_may_lack_an_observation_that_is_summed_out():
    (x, y), index = labelled(6), torch.arange(6)
    named, plain = ByName(), Labels()
    named.load_state_dict(plain.state_dict())
    guide = Encoder()
    other = OfNames()
    other.load_state_dict(guide.state_dict())
    for by_name, given in (({"x": x}, {}), ({"x": x, "y": y}, {"y": y})):
        found = []
        for model, q, batch in (
            (named, other, Batch(by_name, index, 6)),
            (plain, guide, Batch(x, index, 6, given)),
        ):
            torch.manual_seed(0)
            found.append(ELBO(2).differentiable_loss(model, q, batch))
        torch.testing.assert_close(*found)
    with pytest.raises(ValueError, match="the batch lacks 'x'"):
        ELBO().loss(named, other, Batch({"y": y}, index, 6))


class Narrow(Labels):
    """Puts y beside z, which does not broadcast."""

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(self.W.new_zeros(K), 1.0).to_event(1))
            y = pyro.sample("y", dist.OneHotCategorical(logits=self.logits), infer=SUM)
            loc = torch.cat([z, y], -1) @ torch.cat([self.W, self.V])
            return pyro.sample("x", dist.Normal(loc, 0.5).to_event(1), obs=batch.x)


class Mixed(Labels):
    """Looks at all values of y where it should look at one."""

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(self.W.new_zeros(K), 1.0).to_event(1))
            y = pyro.sample("y", dist.OneHotCategorical(logits=self.logits), infer=SUM)
            loc = z @ self.W + (y.cumsum(0) if y.ndim > 2 else y) @ self.V
            return pyro.sample("x", dist.Normal(loc, 0.5).to_event(1), obs=batch.x)


def test_a_model_that_does_not_take_all_values_at_once_is_refused():
    batch = Batch.of(labelled(4)[0])
    for model, words in (
        (Narrow(), "Narrow does not take all values of a summed latent at once"),
        (Mixed(), "Mixed mixes the values of a summed latent: .* density of 'x' changes"),
    ):
        with pytest.raises(ValueError, match=words) as refusal:
            ELBO(2).loss(model, Encoder(), batch)
        assert "\n" not in str(refusal.value)


class Guessing(Program):
    """Draws y without a mark."""

    def forward(self, batch):
        with data_plate(batch):
            y = pyro.sample("y", dist.OneHotCategorical(torch.ones(C)))
            pyro.sample("z", dist.Normal(y[..., :K], 1.0).to_event(1))


class OfAll(Program):
    """One y for all rows."""

    def __init__(self) -> None:
        super().__init__()
        self.m = nn.Parameter(torch.randn(C))

    def forward(self, batch):
        y = pyro.sample("y", dist.Categorical(torch.ones(C)), infer=SUM)
        with data_plate(batch):
            return pyro.sample("x", dist.Normal(self.m[y], 1.0), obs=batch.x)


def test_a_latent_of_all_rows_is_summed_out_of_the_whole_data_set_alone():
    model, x = OfAll(), torch.randn(5)
    guide = GUIDES["prior"](model)
    told = dist.Normal(model.m, 1.0).log_prob(x[:, None]).sum(0) - torch.tensor(3.0).log()
    torch.testing.assert_close(
        -ELBO().differentiable_loss(model, guide, Batch.of(x)), told.logsumexp(0)
    )
    with pytest.raises(ValueError, match="'y' is summed out but rescaled by 1, 'x' by 2"):
        ELBO().loss(model, guide, Batch(x, torch.arange(5), 10))
    with pytest.raises(ValueError, match="site 'x' is global"):
        IWAE(2).loss(model, guide, Batch.of(x))


def test_a_sum_in_the_guide_runs_eagerly_with_one_warning(as_traced):
    (x, y), found = labelled(6), []
    for compile in (False, True):
        torch.manual_seed(0)
        model, guide = Labels(), Classifier()
        optim = torch.optim.SGD([*model.parameters(), *guide.parameters()], 1e-2)
        svi = SVI(model, guide, optim, EnumeratedELBO(), compile=compile)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            for batch in (Batch.of(x), Batch.of(x, {"y": y})) * 2:
                found.append(svi.step(batch))
        words = [str(w.message) for w in said]
        assert len(words) == compile
        assert not words or "Pyro sums over what the guide samples" in words[0]
    torch.testing.assert_close(found[:4], found[4:])


def test_a_loss_without_gradients_keeps_the_digits_of_the_modules():
    model, guide, batch = Labels(), Classifier(), Batch.of(labelled(6)[0])
    torch.set_default_dtype(torch.float32)  # the modules are in float64
    losses = []
    for grad in (True, False):
        torch.manual_seed(0)
        with torch.set_grad_enabled(grad):
            losses.append(EnumeratedELBO().differentiable_loss(model, guide, batch).detach())
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-12, atol=0)


def test_where_the_guide_samples_y_its_draws_are_weighed():
    model, guide, x = Labels(), Classifier(), labelled(3)[0]
    batch = Batch.of(x)
    with torch.no_grad():
        p, q = traces(model, guide, batch)
        y, z = (q.nodes[name]["value"] for name in "yz")
        prior = dist.Normal(torch.zeros(K), 1.0).to_event(1).log_prob(z)
        of_y = dist.OneHotCategorical(logits=guide.c(x)).log_prob
        loc = guide.A(x).unsqueeze(1) + guide.V
        of_z = dist.Normal(loc, 0.6).to_event(1).log_prob(z.unsqueeze(1))
        want = (model.joint(x, z) * y).sum(1) + prior - of_y(y) - (of_z * y).sum(1)
        torch.testing.assert_close(log_weights(p, q, batch), want)
        every = torch.stack([of_y(row.expand(3, C)) for row in torch.eye(C)], 1)
        found = density(guide, batch, ["z"])({"z": z})
        torch.testing.assert_close(found, (every + of_z).logsumexp(1))


class Changing(Labels):
    """Labels with a mask in the batch, and a plain attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = torch.zeros(D)

    def forward(self, batch):
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(self.W.new_zeros(K), 1.0).to_event(1))
            prior = dist.Categorical(logits=self.logits)
            y = pyro.sample("y", prior, infer=SUM)
            loc = z @ self.W + self.V[y] + self.shift
            likelihood = dist.Normal(loc, 0.5).mask(batch.given["seen"]).to_event(1)
            return pyro.sample("x", likelihood, obs=batch.x)


def fifty_steps(compile):
    torch.manual_seed(0)
    model, guide = Changing(), Encoder()
    parameters = [*model.parameters(), *guide.parameters()]
    svi = SVI(model, guide, torch.optim.SGD(parameters, 1e-3), EnumeratedELBO(2), compile=compile)
    losses = []
    for k in range(50):
        torch.manual_seed(k)
        model.shift = torch.randn(D)
        given = {"seen": torch.rand(6, D) < 0.6}
        batch = Batch(torch.randn(6, D), torch.arange(6) + k, 80, given)
        losses.append(svi.step(batch))
    if compile:
        assert not svi.compiled.reasons
        assert len(svi.compiled.graphs) == 1
    return [torch.stack(losses), *(p.detach() for p in parameters)]


@pytest.mark.compiled
@pytest.mark.skipif(not can_compile(), reason="Inductor needs a compiler")
def test_fifty_compiled_steps_are_the_eager_ones():
    with torch._inductor.config.patch(fallback_random=True):
        found = [fifty_steps(compile) for compile in (False, True)]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
