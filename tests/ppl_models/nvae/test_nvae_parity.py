"""Every number of the published NVAE's fixtures: model, guide, objective and optimiser."""

import math

import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from experiments.inference.handlers import Temperature, TemperKL
from experiments.inference.objectives.nvae import (
    VARIANTS,
    BalancedKL,
    Regularised,
    balancing_weights,
    group_sizes,
)
from experiments.inference.objectives.regularisers import SpectralNorm, batch_norm_gains
from experiments.inference.svi import SVI, Pair
from experiments.inference.traces import site_kls, traces
from guides.hierarchies.top_down import TopDown
from ppl_models import Batch
from ppl_models.nvae import NVAE
from ppl_models.nvae.distributions import SoftNormal
from ppl_models.nvae.reference import from_reference, reference_names, to_reference
from ppl_models.nvae.reference_options import options_of_args
from tests.shared.golden import FIXTURES, Fixture

pytestmark = pytest.mark.skipif(not FIXTURES, reason="the published NVAE's fixtures are not here")


@pytest.fixture
def noise(monkeypatch):
    """Standard normal draws of the latents come from this list."""
    queue: list[torch.Tensor] = []
    monkeypatch.setattr(
        SoftNormal, "rsample", lambda self, shape=(): self.loc + self.scale * queue.pop(0)
    )
    return queue


def pair_of(fixture: Fixture) -> Pair:
    model_options, guide_options = options_of_args(fixture.facts["args"])
    model = NVAE(**model_options)
    pair = Pair(model, TopDown(model, **guide_options))
    prefix = "state_dict/"
    state = {
        k.removeprefix(prefix): torch.from_numpy(v)
        for k, v in fixture.arrays.items()
        if k.startswith(prefix)
    }
    pair.load_state_dict(from_reference(pair, state))
    return pair.to(fixture.dtype)


def parameters_of(likelihood) -> torch.Tensor:
    for name in ("parameters", "logits"):
        if hasattr(likelihood, name):
            return getattr(likelihood, name)
    return torch.cat(likelihood.base_dist.raw, 1)


def log_prob_map(likelihood, x) -> torch.Tensor:
    if hasattr(likelihood, "log_prob_map"):
        return likelihood.log_prob_map(x)
    if hasattr(likelihood, "logits"):  # the border, too
        return dist.Bernoulli(logits=likelihood.logits).log_prob(x)
    return likelihood.base_dist.log_prob(x)


class Measured:
    """One run of guide and model under given noise."""

    def __init__(self, pair: Pair, fixture: Fixture, noise: list, eps: list) -> None:
        self.names = [f"z{i}" for i in range(len(eps))]
        noise[:] = eps
        self.p, self.q = traces(pair.model, pair.guide, Batch.of(fixture.input("x")))
        assert not noise
        kls, self.sampled = site_kls(self.p, self.q)
        self.kl = torch.stack([kls[name] for name in self.names], 1)
        self.likelihood = self.p.nodes["x"]["fn"]
        self.log_q, self.log_p = (
            torch.stack([trace.nodes[name]["log_prob"] for name in self.names], 1)
            for trace in (self.q, self.p)
        )
        self.distortion = -self.p.nodes["x"]["log_prob"]
        self.log_iw = -self.distortion - self.log_q.sum(1) + self.log_p.sum(1)

    def posterior(self, name):
        q = self.q.nodes[name]["fn"]
        return getattr(q, "base_dist", q) if hasattr(q, "transforms") else q


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", FIXTURES)
def test_evaluation(name, dtype, noise):
    fixture = Fixture(name, dtype)
    pair = pair_of(fixture).eval()
    found = Measured(pair, fixture, noise, fixture.inputs("eps"))
    x = fixture.input("x")
    for i, site in enumerate(found.names):
        q, p = found.posterior(site), found.p.nodes[site]["fn"]
        shape = found.q.nodes[site]["value"].shape
        for letter, normal in (("q", q), ("p", p)):
            fixture.check(f"eval/{letter}_mu/{i}", normal.mean.expand(shape))
            fixture.check(f"eval/{letter}_sigma/{i}", normal.stddev.expand(shape))
        fixture.check(f"eval/z/{i}", found.q.nodes[site]["value"])
        fixture.check(f"eval/z0/{i}", q.mean + q.stddev * fixture.input(f"eps/{i}"))
    kls = [
        torch.distributions.kl_divergence(
            torch.distributions.Normal(found.posterior(s).mean, found.posterior(s).stddev),
            torch.distributions.Normal(found.p.nodes[s]["fn"].mean, found.p.nodes[s]["fn"].stddev),
        )
        for s in found.names
    ]
    if found.sampled:  # with flows the difference at the sample, element by element
        kls = [_sampled_kl(found, s, fixture.input(f"eps/{i}")) for i, s in enumerate(found.names)]
    fixture.check("eval/kl_diag", torch.stack([kl.sum((2, 3)).mean(0) for kl in kls]))
    fixture.check("eval/kl_all", found.kl)
    fixture.check("eval/log_q_group", found.log_q)
    fixture.check("eval/log_p_group", found.log_p)
    fixture.check("eval/log_q", found.log_q.sum(1))
    fixture.check("eval/log_p", found.log_p.sum(1))
    fixture.check("eval/logits", parameters_of(found.likelihood))
    fixture.check("eval/log_prob_map", log_prob_map(found.likelihood, x))
    fixture.check("eval/recon_loss", found.distortion)
    fixture.check("eval/elbo", -found.distortion - found.kl.sum(1))
    fixture.check("eval/log_iw", found.log_iw)
    fixture.check("eval/out_mean", found.likelihood.mean)
    importance_weights(fixture, pair, noise, found)
    assert not fixture.missed(("eval/", "iw/"))


def _sampled_kl(found, site, eps):
    q, p = found.posterior(site), found.p.nodes[site]["fn"]
    z0 = q.mean + q.stddev * eps
    z = found.q.nodes[site]["value"]
    normal = torch.distributions.Normal
    return normal(q.mean, q.stddev).log_prob(z0) - normal(p.mean, p.stddev).log_prob(z)


def importance_weights(fixture, pair, noise, first):
    count = fixture.facts.get("iw_samples", 0)
    if not count:
        return
    runs = [
        first,
        *(Measured(pair, fixture, noise, fixture.inputs(f"iw/eps/{k}")) for k in range(1, count)),
    ]
    log_iw = torch.stack([run.log_iw for run in runs], 1)
    nelbo = torch.stack([run.distortion + run.kl.sum(1) for run in runs]).mean()
    fixture.check("iw/log_iw", log_iw)
    fixture.check("iw/nelbo", nelbo)
    fixture.check("iw/neg_log_p", -(log_iw.logsumexp(1) - math.log(count)).mean())


def spectral(pair: Pair, fixture: Fixture) -> tuple[SpectralNorm, dict[str, list[int]]]:
    """The regulariser with the fixture's start vectors, and its rows in the fixture's order."""
    norm = SpectralNorm(pair)
    theirs = {
        ours.removesuffix(".weight"): name.removesuffix(".weight")
        for ours, name in reference_names(pair).items()
    }
    order = {}
    for shape, names in fixture.facts["sr_shapes"].items():
        ours = [theirs[name] for name, _ in norm.groups[shape]]
        order[shape] = [ours.index(name) for name in names]
        for letter in ("u", "v"):
            rows = torch.empty_like(fixture.input(f"reg/sr_{letter}/{shape}"))
            rows[order[shape]] = fixture.input(f"reg/sr_{letter}/{shape}")
            norm.register_buffer(f"{letter} {shape}", rows, persistent=False)
    assert set(order) == set(norm.groups)
    return norm, order


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", FIXTURES)
def test_regularisers(name, dtype):
    fixture = Fixture(name, dtype)
    pair = pair_of(fixture)
    norm, order = spectral(pair, fixture)
    fixture.check("reg/sr_loss", norm())
    for shape, rows in order.items():
        u, v = norm.vectors(shape)
        fixture.check(f"reg/sr_u_after/{shape}", u[rows])
        fixture.check(f"reg/sr_v_after/{shape}", v[rows])
    norm, _ = spectral(pair, fixture)
    norm.iterations = 40
    fixture.check("reg/sr_loss_40iter", norm())
    fixture.check("reg/bn_loss", batch_norm_gains(pair))
    assert not fixture.missed("reg/")


def objective_of(pair: Pair, fixture: Fixture) -> Regularised:
    norm, _ = spectral(pair, fixture)
    balanced = BalancedKL(pair.model.groups_per_scale)
    weight = fixture.facts["weight_decay_norm_used"]
    return Regularised(balanced, [norm, lambda: batch_norm_gains(pair)], weight)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", FIXTURES)
def test_training(name, dtype, noise):
    fixture = Fixture(name, dtype)
    pair = pair_of(fixture).train()
    groups = pair.model.groups_per_scale
    found = Measured(pair, fixture, noise, fixture.inputs("eps"))
    fixture.check("train/logits", parameters_of(found.likelihood))
    fixture.check("train/log_q", found.log_q.sum(1))
    fixture.check("train/log_p", found.log_p.sum(1))
    fixture.check("train/kl_all", found.kl)
    fixture.check("train/recon_loss", found.distortion)
    buffers = {theirs: pair.state_dict()[ours] for ours, theirs in reference_names(pair).items()}
    for key in [k for k in fixture.unseen if k.startswith("train/buffers/")]:
        fixture.check(key, buffers[key.removeprefix("train/buffers/")])
    for variant in VARIANTS:
        sizes = group_sizes(groups, variant)
        weights = balancing_weights(found.kl, sizes)
        fixture.check(f"klb/{variant}/alpha", sizes, 1e-6)  # computed in float32 there
        fixture.check(f"klb/{variant}/coeffs_0.3", weights)
        fixture.check(f"klb/{variant}/balanced_kl_0.3", 0.3 * (weights * found.kl).sum(1))
    fixture.check("klb/coeffs_1.0", torch.ones(found.kl.shape[1]))
    fixture.check("klb/balanced_kl_1.0", found.kl.sum(1))
    fixture.check("klb/kl_vals", found.kl.mean(0))
    gradients(fixture, noise)
    assert not fixture.missed(("train/", "klb/"))


def in_their_order(pair: Pair, fixture: Fixture) -> list[torch.nn.Parameter]:
    theirs = {name: ours for ours, name in reference_names(pair).items()}
    own = dict(pair.named_parameters())
    return [own[theirs[name]] for name in fixture.facts["param_names"]]


def heads(tensors: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack([torch.cat([t.flatten()[:4], t.new_zeros(4)])[:4] for t in tensors])


def gradients(fixture, noise):
    pair = pair_of(fixture).train()
    objective = objective_of(pair, fixture)
    batch = Batch.of(fixture.input("x"))
    noise[:] = fixture.inputs("eps")
    with TemperKL(fixture.facts["kl_coeff_train"]):
        loss = objective.differentiable_loss(pair.model, pair.guide, batch) / batch.size
    loss.backward()
    fixture.check("train/loss", loss)
    found = [
        torch.full_like(p, math.nan) if p.grad is None else p.grad
        for p in in_their_order(pair, fixture)
    ]
    fixture.check("train/grad_l2", torch.stack([g.norm() for g in found]))
    fixture.check("train/grad_sum", torch.stack([g.sum() for g in found]))
    fixture.check("train/grad_head", heads(found))


class Parts:
    """What the parts of an objective gave in its last call: mean distortion, mean balanced KL,
    spectral norms, gains."""

    def __init__(self, objective: Regularised) -> None:
        self.seen: list[torch.Tensor] = []
        balanced, bound = objective.objective, objective.objective.bound

        def watched(p, q, batch):
            found = bound(p, q, batch)
            distortion = -p.nodes["x"]["log_prob"].sum()
            self.seen = [distortion / batch.size, (-found - distortion) / batch.size]
            return found

        balanced.bound = watched
        objective.penalties = [self.noted(part) for part in objective.penalties]

    def noted(self, part):
        def call():
            value = part()
            self.seen.append(value)
            return value

        return call


@pytest.mark.parametrize("name", FIXTURES)
def test_three_steps(name, noise):
    fixture = Fixture(name)
    pair = pair_of(fixture).train()
    objective, facts = objective_of(pair, fixture), fixture.facts["optimiser_steps"]
    ordered = in_their_order(pair, fixture)
    optimizer = torch.optim.Adamax(
        ordered, lr=facts["lr"], eps=facts["eps"], weight_decay=facts["weight_decay"]
    )
    svi = SVI(pair.model, pair.guide, optimizer, objective, compile=False)
    batch = Batch.of(fixture.input("x"))
    parts = Parts(objective)
    rows = []
    for _ in range(facts["n"]):
        noise[:] = fixture.inputs("eps")
        with TemperKL(fixture.facts["kl_coeff_train"]):
            total = svi.step(batch)
        rows.append(torch.stack([total, *parts.seen]))
    fixture.check("steps/loss", torch.stack(rows), 1e-7)
    fixture.check("steps/param_l2", torch.stack([p.norm() for p in ordered]), 1e-7)
    fixture.check("steps/param_sum", torch.stack([p.sum() for p in ordered]), 1e-7)
    fixture.check("steps/param_head", heads(ordered), 1e-7)


@torch.no_grad()
def draw(pair: Pair, fixture: Fixture, noise: list, temperature: float) -> poutine.Trace:
    noise[:] = fixture.inputs("eps")
    count = len(fixture.input("x"))
    with Temperature(temperature):
        return poutine.trace(pair.model).get_trace(Batch.draw(count))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", FIXTURES)
def test_sampling_and_readjustment(name, dtype, noise):
    fixture = Fixture(name, dtype)
    pair = pair_of(fixture).eval()
    for temperature in (1.0, 0.6):
        trace = draw(pair, fixture, noise, temperature)
        fixture.check(f"sample/logits_t{temperature}", parameters_of(trace.nodes["x"]["fn"]))
        for i in range(len(fixture.facts["latent_shapes"])):
            site = trace.nodes[f"z{i}"]
            fixture.check(f"sample/z_t{temperature}/{i}", site["value"])
            sigma = (temperature * site["fn"].stddev).expand(site["value"].shape)
            fixture.check(f"sample/p_sigma_t{temperature}/{i}", sigma)
    pair.train()
    for _ in range(3):
        draw(pair, fixture, noise, 0.6)
    buffers = {theirs: pair.state_dict()[ours] for ours, theirs in reference_names(pair).items()}
    for key in [k for k in fixture.unseen if k.startswith("readjust/buffers/")]:
        fixture.check(key, buffers[key.removeprefix("readjust/buffers/")])
    trace = draw(pair.eval(), fixture, noise, 0.6)
    fixture.check("readjust/logits_t0.6", parameters_of(trace.nodes["x"]["fn"]))
    assert not fixture.missed(("sample/", "readjust/"))


@pytest.mark.parametrize("name", FIXTURES)
def test_a_written_state_is_the_published_one(name):
    fixture = Fixture(name)
    state = to_reference(pair_of(fixture))
    expected = [(key, shape) for key, shape, _ in fixture.facts["state_dict_keys"]]
    assert [(key, list(tensor.shape)) for key, tensor in state.items()] == expected
