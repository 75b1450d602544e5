"""A compiled step draws, learns and remembers what the eager one does, or says why it does not."""

import math
import random
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
import torch._inductor.config
from pyro import poutine
from torch import nn
from torch._dynamo.utils import counters

from experiments.inference.average import WeightAverage
from experiments.inference.compiled import CompileWarning, graph
from experiments.inference.compiled import gradients as compiled
from experiments.inference.fit import fit
from experiments.inference.guard import Guard
from experiments.inference.handlers import InsideObjective, TemperKL
from experiments.inference.objectives import OBJECTIVES
from experiments.inference.objectives.nvae import BalancedKL, Regularised
from experiments.inference.objectives.regularisers import SpectralNorm, batch_norm_gains
from experiments.inference.optim import cosine, global_parameters
from experiments.inference.precision import BFloat16Products
from experiments.inference.svi import SVI, Pair
from guides import GUIDES
from ppl_models import NVAE, PPCA, VAE, Batch
from ppl_models.batch import data_plate
from ppl_models.program import Program
from tests.shared.pairs import build, observations

needs_compiler = pytest.mark.skipif(not graph.can_compile(), reason="Inductor needs a compiler")

NVAE_WITH_FLOWS = ("nvae", "top_down", {"cells_per_block": 1, "flows": 1})
VAE_AMORTIZED = ("vae", "amortized", {"hidden_dims": (5,)})
CASES = [
    (("ppca", "exact", {}), "elbo"),
    (("ppca", "amortized", {"encoder": "linear", "covariance": "full"}), "stl"),
    (("vae", "prior", {}), "iwae"),
    (VAE_AMORTIZED, "elbo_analytic_kl"),
    (VAE_AMORTIZED, "elbo_free_bits"),
    (VAE_AMORTIZED, "dreg"),
    (VAE_AMORTIZED, "renyi"),
    (("vae", "flow", {"hidden_dims": (5,), "context": 3, "width": 6}), "elbo"),
    (("vae", "flow", {"transform": "coupling", "hidden_dims": (5,), "context": 3}), "iwae"),
    (("vae", "mixture", {"components": 3, "hidden_dims": (5,)}), "miselbo"),
    (("vae", "semi_amortized", {"hidden_dims": (5,), "steps": 2, "through": True}), "elbo"),
    (("nvae", "bottom_up", {"cells_per_block": 1, "attention": False}), "elbo"),
]
"""The recipe of NVAE below is a case of its own, with attention, under the analytic KL."""
CONVOLUTIONS = ("convolutions", "amortized", {"hidden_dims": (5,)})
REPRESENTATIVES = [
    (("ppca", "amortized", {"encoder": "linear", "covariance": "full"}), "stl"),
    (("vae", "flow", {"hidden_dims": (5,), "context": 3, "width": 6}), "elbo"),
    (("vae", "mixture", {"components": 3, "hidden_dims": (5,)}), "miselbo"),
    (CONVOLUTIONS, "elbo_analytic_kl"),
]
"""What the compiler is tried on: factors, a recursion, several components, running statistics."""


@pytest.fixture(autouse=True)
def _same_random_numbers():
    """Inductor draws its own otherwise."""
    with torch._inductor.config.patch(fallback_random=True):
        yield


def descent(model: nn.Module, guide: nn.Module) -> torch.optim.Optimizer:
    """Plain gradient descent: Adam would blow rounding errors up where a gradient is zero."""
    return torch.optim.SGD(global_parameters(model, guide), lr=1e-3, momentum=0.9)


class Convolutions(Program):
    """Convolutions and a batch norm, as in NVAE, whose graph is long to compile."""

    vectorises = False

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 32)
        self.decoder = nn.Sequential(
            nn.Conv2d(2, 2, 3, padding=1),
            nn.BatchNorm2d(2),
            nn.SiLU(),
            nn.Conv2d(2, 1, 3, padding=1),
        )

    def forward(self, batch: Batch) -> torch.Tensor:
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            logits = self.decoder(self.first(z).reshape(-1, 2, 4, 4))
            likelihood = dist.Bernoulli(logits=logits).to_event(3)
            return pyro.sample("x", likelihood, obs=batch.x)


def pair_of(pair: tuple) -> tuple[nn.Module, Any]:
    """A small pair; of NVAE the smallest there is, whose graph is large enough."""
    name, guide, options = pair
    if name == "convolutions":
        model: nn.Module = Convolutions()
    elif name == "nvae":
        groups = (2,) if pair is NVAE_WITH_FLOWS else (1, 1)
        attention = options.get("attention", True)
        cells = {"cells_per_block": 1, "depthwise": False, "attention": attention}
        model = NVAE((1, 4, 4), groups, 2, 2, blocks=1, crop=0, **cells)
    else:
        return build(pair)
    return model, GUIDES[guide](model, **options)


def images(pair: tuple) -> torch.Tensor:
    of_images = pair[0] in ("nvae", "convolutions")
    return torch.rand(12, 1, 4, 4).round() if of_images else observations(pair)


def trained(svi: SVI, x: torch.Tensor, batch_size: int = 4) -> dict[str, torch.Tensor]:
    """Everything a pair holds after two epochs, the KL's factor rising, the rate falling."""
    temper = TemperKL(0.0)

    def anneal(progress: float) -> None:
        temper.beta = progress

    torch.manual_seed(1)
    with temper:
        for _ in fit(svi, x, 2, batch_size, cosine(0.2), 0, anneal=anneal):
            pass
    return Pair(svi.model, svi.guide).state_dict()


def check_training(pair: tuple, objective: str) -> None:
    partial = pair is VAE_AMORTIZED and objective == "elbo_analytic_kl"
    results = []
    for compile in (False, True):
        torch.manual_seed(0)
        model, guide = pair_of(pair)
        particles = 3 if objective in ("iwae", "dreg", "renyi") else 1
        loss = OBJECTIVES[objective](particles)
        svi = SVI(model, guide, descent(model, guide), loss, compile=compile)
        results.append(trained(svi, images(pair), 5 if partial else 4))
    assert svi.compiled.reasons == []
    assert len(svi.compiled.graphs) == 1 + partial  # for five rows, and for the last two
    assert svi.compiled.seconds > 0
    torch.testing.assert_close(results[1], results[0], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("pair", "objective"), CASES, ids=lambda case: str(case)[:40])
def test_training_by_graphs_is_that_of_eager_steps(as_traced, pair, objective):
    check_training(pair, objective)


@pytest.mark.compiled
@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize(("pair", "objective"), REPRESENTATIVES, ids=lambda case: str(case)[:40])
def test_training_by_compiled_graphs_is_that_of_eager_steps(pair, objective):
    check_training(pair, objective)


def test_the_recipe_of_nvae_is_that_of_eager_steps(as_traced):
    results = []
    for compile in (False, True):
        torch.manual_seed(0)
        pair = Pair(*pair_of(NVAE_WITH_FLOWS))
        norm = SpectralNorm(pair, iterations=1)
        penalties = [norm, lambda pair=pair: batch_norm_gains(pair)]
        objective = Regularised(BalancedKL(pair.model.groups_per_scale), penalties, 1e-2)
        svi = SVI(
            pair.model,
            pair.guide,
            descent(pair.model, pair.guide),
            objective,
            Guard(100.0),
            WeightAverage(pair, 0.9),
            compile,
        )
        state = trained(svi, images(NVAE_WITH_FLOWS))
        vectors = {name: buffer.clone() for name, buffer in norm.named_buffers()}
        results.append((state, vectors, svi.average.weights.state_dict()))
    assert svi.compiled.reasons == []
    torch.testing.assert_close(results[1], results[0], rtol=1e-9, atol=1e-11)


class Noisy(Program):
    """Dropout and batch norm in a decoder: both know whether they are being trained."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.Sequential(
            nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 7)
        )

    def forward(self, batch: Batch) -> torch.Tensor:
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(1), obs=batch.x)


def test_modes_and_frozen_parameters_are_followed(as_traced):
    results = []
    for compile in (False, True):
        torch.manual_seed(0)
        model = Noisy()
        guide = GUIDES["amortized"](model, hidden_dims=(5,))
        svi = SVI(model, guide, descent(model, guide), compile=compile)
        batch = Batch.of(observations(VAE_AMORTIZED))
        svi.step(batch)
        model.eval()
        svi.step(batch)
        model.train().requires_grad_(False)
        svi.step(batch)
        results.append(Pair(model, guide).state_dict())
    assert svi.compiled.reasons == []
    assert len(svi.compiled.graphs) == 3
    torch.testing.assert_close(results[1], results[0], rtol=1e-9, atol=1e-11)


@pytest.mark.compiled
@needs_compiler
def test_noise_is_fresh_and_follows_the_seed():
    with torch._inductor.config.patch(fallback_random=False):
        model, guide = build(VAE_AMORTIZED)
        svi = SVI(model, guide, torch.optim.SGD(guide.parameters(), lr=0.0), compile=True)
        batch = Batch.of(observations(VAE_AMORTIZED))
        runs = []
        for _ in range(2):
            torch.manual_seed(3)
            runs.append([svi.step(batch).item() for _ in range(3)])
        eager = torch.stack([svi.evaluate_loss(batch) for _ in range(2000)])
        drawn = torch.stack([svi.step(batch) for _ in range(2000)])
    assert runs[0] == runs[1]
    assert len(set(runs[0])) == 3
    error = (eager.var() / 2000 + drawn.var() / 2000).sqrt()
    assert (eager.mean() - drawn.mean()).abs() < 4 * error
    torch.testing.assert_close(drawn.std(), eager.std(), rtol=0.1, atol=0)


@pytest.mark.compiled
@needs_compiler
def test_a_graph_that_was_compiled_before_is_found_on_disk(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    states = []
    for expected in ("miss", "hit"):
        counters.clear()
        torch.manual_seed(0)
        model, guide = build(VAE_AMORTIZED)
        svi = SVI(model, guide, descent(model, guide), compile=True)
        svi.step(Batch.of(observations(VAE_AMORTIZED)))
        assert counters["inductor"][f"fxgraph_cache_{expected}"] == 1
        states.append(Pair(model, guide).state_dict())
    torch.testing.assert_close(states[1], states[0], rtol=0, atol=0)


def test_affine_maps_are_products_and_a_bias_apart():
    x, weight, bias = torch.randn(5, 4), torch.randn(3, 4), torch.randn(3)
    made = graph.traced(lambda *values: (nn.functional.linear(*values),), [x, weight, bias])
    assert "addmm" not in made.code
    right = nn.functional.linear(x, weight, bias)
    torch.testing.assert_close(made(x, weight, bias)[0], right, rtol=1e-14, atol=1e-14)
    scaled = graph.traced(lambda *v: (torch.addmm(*v, alpha=2),), [bias, x, weight.mT])
    torch.testing.assert_close(scaled(bias, x, weight.mT)[0], 2 * right - bias)


@pytest.mark.parametrize(
    "shape", [(6, 4, 7), (6, 7, 3), (2, 6, 7), (1, 1, 1), (6, 7, 5), (0, 4, 5)]
)
def test_a_product_with_a_short_side_is_traced_as_sums(shape):
    rows, inner, columns = shape
    a, b = torch.randn(rows, inner), torch.randn(columns, inner).mT
    made = graph.traced(lambda *values: (torch.mm(*values),), [a, b])
    assert ("mm" in made.code) == (min(shape) in (0, 5))
    torch.testing.assert_close(made(a, b)[0], a @ b, rtol=1e-14, atol=1e-14)


def test_a_product_of_rounded_numbers_is_traced_as_it_is():
    a, b = torch.randn(6, 2).bfloat16(), torch.randn(2, 6).bfloat16()
    assert "mm" in graph.traced(lambda *values: (torch.mm(*values),), [a, b]).code


class Awkward(PPCA):
    """Programs that no graph can stand for, each in its own way."""

    def __init__(self, how: str) -> None:
        super().__init__(7, 3)
        self.how, self.calls = how, 0
        self.register_buffer("seen", torch.zeros(()))
        self.outside = [nn.Parameter(torch.zeros(7))]

    def forward(self, batch: Batch) -> torch.Tensor:
        self.calls += 1
        weight = 1.0
        if self.how == "branch" and self.W.sum() > 0:
            weight = 2.0
        if self.how == "python random":
            weight = random.random()
        if self.how == "counter":
            weight = float(self.calls)
        if self.how == "buffer":
            self.seen = self.seen + 1
        if self.how == "outside" and batch.x is not None:
            batch = batch._replace(x=batch.x - self.outside[0])
        with poutine.scale(scale=weight):
            return super().forward(batch)


@needs_compiler
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("branch", "a tensor's value decides"),
        ("python random", "random numbers from Python or NumPy"),
        ("counter", "its second call computes something else"),
        ("buffer", "the buffer model.seen is replaced"),
        ("outside", r"a parameter \[7\] outside of the modules"),
    ],
)
def test_what_is_no_graph_runs_eagerly_and_says_why(how, words):
    x = torch.randn(12, 7)
    finals = []
    for compile in (False, True):
        torch.manual_seed(0)
        random.seed(0)
        model = Awkward(how)
        guide = GUIDES["amortized"](model, hidden_dims=(5,))
        svi = SVI(model, guide, compile=compile)
        torch.manual_seed(1)
        if compile:
            with pytest.warns(CompileWarning, match=f"cannot be compiled .*: .*{words}"):
                svi.step(Batch.of(x))
        svi.step(Batch.of(x))  # no second warning: it would be an error here
        finals.append(model.W.detach().clone())
    assert finals[1].isfinite().all()
    assert not finals[0].equal(finals[1])  # one step more


@needs_compiler
def test_an_unknown_handler_means_an_eager_step():
    model, guide = build(VAE_AMORTIZED)
    svi = SVI(model, guide, compile=True)
    with pytest.warns(CompileWarning, match="no handler ScaleMessenger"), poutine.scale(scale=2.0):
        svi.step(Batch.of(observations(VAE_AMORTIZED)))


def test_a_hook_on_a_gradient_is_called(as_traced):
    model, guide = build(VAE_AMORTIZED)
    svi = SVI(model, guide, compile=True)
    batch, seen = Batch.of(observations(VAE_AMORTIZED)), []
    svi.step(batch)
    weight = next(model.parameters())
    hooks = [
        weight.register_hook(seen.append),
        weight.register_post_accumulate_grad_hook(seen.append),
    ]
    with pytest.warns(CompileWarning, match="a hook is registered on a parameter's gradient"):
        svi.step(batch)
    for hook in hooks:
        hook.remove()
    svi.step(batch)
    assert len(seen) == 2


def test_a_forward_hook_is_traced_with_its_module(as_traced):
    model, guide = build(VAE_AMORTIZED)
    svi = SVI(model, guide, compile=True)
    batch = Batch.of(observations(VAE_AMORTIZED))
    assert svi.step(batch).isfinite()
    model.decoder.register_forward_hook(lambda part, inputs, output: output * math.nan)
    with pyro.validation_enabled(False):
        assert svi.step(batch).isnan()


def test_rows_of_a_per_datum_guide_mean_eager_steps():
    pair = ("vae", "mean_field", {})
    model, guide = build(pair)
    svi = SVI(model, guide, compile=True)
    with pytest.warns(CompileWarning, match="per-datum"):
        svi.step(Batch.of(observations(pair)))


def test_no_compiler_means_eager_steps(monkeypatch):
    monkeypatch.setattr(compiled, "can_compile", lambda: False)
    model, guide = build(VAE_AMORTIZED)
    svi = SVI(model, guide, compile=True)
    with pytest.warns(CompileWarning, match=r"no C\+\+ compiler is installed"):
        svi.step(Batch.of(observations(VAE_AMORTIZED)))


def test_gradients_add_up_as_those_of_backward_do(as_traced):
    torch.manual_seed(0)
    model = VAE((7,), latent_dim=3)
    guide = GUIDES["amortized"](model, hidden_dims=(5,))
    svi = SVI(model, guide, compile=True)
    batch = Batch.of(observations(VAE_AMORTIZED))
    found = []
    for gradients in (svi.gradients, svi.compiled):
        Pair(model, guide).zero_grad()
        for seed in (0, 1):
            torch.manual_seed(seed)
            gradients(batch)
        found.append([p.grad.clone() for p in Pair(model, guide).parameters()])
    torch.testing.assert_close(found[1], found[0])


@needs_compiler
def test_a_step_whose_settings_change_for_ever_is_given_up(monkeypatch):
    monkeypatch.setattr(compiled, "MOST_GRAPHS", 0)
    model, guide = build(VAE_AMORTIZED)
    svi = SVI(model, guide, compile=True)
    with pytest.warns(CompileWarning, match="have changed 0 times"):
        svi.step(Batch.of(observations(VAE_AMORTIZED)))
    svi.step(Batch.of(observations(VAE_AMORTIZED)))


def test_arguments_of_products_may_be_named():
    x, W = torch.randn(3, 4).float(), torch.randn(2, 4).float()
    with BFloat16Products():
        named = nn.functional.linear(input=x, weight=W)
        assert torch.equal(named, nn.functional.linear(x, W))
        exact = nn.functional.linear(weight=W.double(), input=x.double())
    torch.testing.assert_close(exact, x.double() @ W.double().mT)
    assert not torch.equal(named, nn.functional.linear(x, W))


def test_products_in_bfloat16_leave_densities_in_float32():
    model = VAE((1, 28, 28), likelihood="bernoulli", network="conv").float()
    guide = GUIDES["amortized"](model, encoder="conv")
    batch = Batch.of(torch.rand(8, 1, 28, 28, dtype=torch.float32).round())
    svi = SVI(model, guide, loss=OBJECTIVES["elbo"](), compile=False)
    torch.manual_seed(0)
    exact = svi.evaluate_loss(batch)
    with BFloat16Products(), InsideObjective():
        trace = poutine.trace(guide).get_trace(batch)
        torch.manual_seed(0)
        rounded = svi.evaluate_loss(batch)
        svi.step(batch)
    assert {site["value"].dtype for _, site in trace.iter_stochastic_nodes()} <= {
        torch.float32,
        torch.int64,
    }
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs() < 0.01 * exact.abs()
    assert all(p.dtype == torch.float32 for p in Pair(model, guide).parameters())
