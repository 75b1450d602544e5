"""What is said of a step that was not finite, and that looking at it changes nothing."""

import math

import pyro
import pyro.distributions as dist
import pyro.infer
import pytest
import torch
from torch import nn

from experiments.inference.guard import Guard
from experiments.inference.guard.diagnosis import RandomState, explain
from experiments.inference.objectives import ELBO, IWAE, AnalyticKL
from experiments.inference.objectives.nvae import Regularised
from experiments.inference.objectives.regularisers import SpectralNorm
from experiments.inference.optim import adam
from experiments.inference.svi import SVI, Pair
from guides import GUIDES
from ppl_models import NVAE, VAE, Batch
from ppl_models.batch import data_plate
from ppl_models.program import Program
from tests.shared.pairs import ALLOWED, build, name_of, objective_of, observations


@pytest.fixture(autouse=True)
def _without_checks():
    with pyro.validation_enabled(False):
        yield


class PerPixel(Program):
    """A decoder that gives log sigma, which may underflow."""

    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Linear(2, 4)
        self.log_scale = nn.Parameter(torch.zeros(4))

    def forward(self, batch: Batch) -> torch.Tensor:
        with data_plate(batch):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            x = dist.Normal(self.loc(z), self.log_scale.exp()).to_event(1)
            return pyro.sample("x", x, obs=batch.x)


def said(svi: SVI, batch: Batch) -> str:
    random = RandomState.now(batch.index)
    return explain(svi.model, svi.guide, svi.objective, batch, random)


def of(model, guide: str = "amortized", objective=None, **options) -> SVI:
    q = GUIDES[guide](model, **options)
    return SVI(model, q, adam(model, q), objective, compile=False)


@pytest.mark.parametrize(
    "objective", [ELBO(), AnalyticKL(), IWAE(3)], ids=["elbo", "analytic", "iwae"]
)
@pytest.mark.parametrize(
    ("log_scale", "density", "least"), [(-800, "nan", "0"), (math.log(1e-200), "-inf", "1e-200")]
)
def test_a_scale_that_underflows(objective, log_scale, density, least):
    """To zero, or so far that its square does."""
    svi = of(PerPixel(), objective=objective, hidden_dims=(5,))
    with torch.no_grad():
        svi.model.log_scale.copy_(torch.tensor([log_scale, 0.0, -30.0, -5.0]))
    words = said(svi, Batch.of(torch.randn(6, 4)))
    assert words.startswith(f"site x: log-density {density} at Normal with loc from ")
    assert f", scale from {least} to 1; the loss is " in words
    assert "; the gradient of model.log_scale is " in words
    assert "\n" not in words


def test_a_pixel_that_is_no_number():
    svi = of(VAE((1, 4, 4), latent_dim=3), hidden_dims=(5,))
    x = torch.rand(6, 1, 4, 4)
    x[2, 0, 1, 1] = math.nan
    words = said(svi, Batch(x, torch.arange(10, 16), 100))
    assert words.startswith("the data themselves are nan in 1 of 96 numbers (row 12); site z of")
    assert "Normal with loc from " in words
    assert "(3 of 18 nan)" in words
    assert "the gradient of model.likelihood.log_sigma is nan in 1 of 1 entries, and of" in words


def test_a_gradient_alone():
    """0 times infinity in the derivative of a square root at zero; the loss is finite."""
    svi = of(PerPixel(), hidden_dims=(5,))
    plain = svi.objective.differentiable_loss
    kink = lambda *args: plain(*args) + 0 * svi.model.log_scale[1].sqrt()  # noqa: E731
    svi.objective.differentiable_loss = kink
    words = said(svi, Batch.of(torch.randn(6, 4)))
    assert words == "the gradient of model.log_scale is nan in 1 of 4 entries"


def test_a_gradient_whose_square_overflows():
    svi = of(PerPixel(), hidden_dims=(5,))
    plain = svi.objective.differentiable_loss
    steep = lambda *args: plain(*args) + 1e200 * svi.model.log_scale[:2].sum()  # noqa: E731
    svi.objective.differentiable_loss = steep
    words = said(svi, Batch.of(torch.randn(6, 4)))
    assert words == "the gradient of model.log_scale is too large to be squared in 2 of 4 entries"


def test_a_hook_is_seen_and_what_writes_into_gradients_is_not():
    svi = of(PerPixel(), hidden_dims=(5,))
    hook = svi.model.loc.bias.register_hook(lambda gradient: gradient * math.inf)
    batch = Batch.of(torch.randn(6, 4))
    assert "the gradient of model.loc.bias is" in said(svi, batch)
    hook.remove()
    svi.guard = Guard()

    def write(parameter: nn.Parameter) -> None:
        parameter.grad.fill_(math.nan)

    svi.model.loc.bias.register_post_accumulate_grad_hook(write)
    svi.step(batch)
    assert "a replay of it is finite, so the cause lies outside of model" in svi.guard.last


def test_a_parameter_that_was_no_number_before():
    svi = of(PerPixel(), hidden_dims=(5,))
    with torch.no_grad():
        svi.model.loc.weight[0, 0] = math.inf
    assert said(svi, Batch.of(torch.randn(6, 4))).startswith(
        "not finite before it: model.loc.weight; site x: log-density "
    )


def test_a_kl_that_is_infinite():
    svi = of(PerPixel(), objective=AnalyticKL(), hidden_dims=(5,))
    # the square of the guide's scale overflows, its logarithm and densities do not
    svi.guide.forward = lambda batch: wide(batch)  # type: ignore[method-assign]

    def wide(batch: Batch) -> torch.Tensor:
        with data_plate(batch):
            q = dist.Normal(torch.full((2,), 1e160), 1.0).to_event(1)
            return pyro.sample("z", q)

    words = said(svi, Batch.of(torch.randn(6, 4)))
    assert words.startswith("site z: KL inf from Normal with loc 1e+160, scale 1 to Normal with")


def test_looking_changes_nothing():
    model = NVAE((1, 4, 4), (1, 1), 2, 2, blocks=1, cells_per_block=1, depthwise=False, crop=0)
    pair = Pair(model, GUIDES["top_down"](model, cells_per_block=1))
    norm = SpectralNorm(pair)
    objective = Regularised(AnalyticKL(), [norm], 1e-2)
    svi = SVI(pair.model, pair.guide, adam(pair.model, pair.guide), objective)
    x = torch.rand(4, 1, 4, 4).round()
    svi.step(Batch.of(x))
    svi.gradients(Batch.of(x))
    modes = [part.training for part in pair.modules()]
    whole = [*pair.parameters(), *pair.buffers(), *norm.buffers()]
    grads = [parameter.grad for parameter in pair.parameters()]
    before = [tensor.detach().clone() for tensor in whole + grads]
    random, earlier = torch.get_rng_state(), RandomState.now(x)
    torch.rand(3)
    moved = torch.get_rng_state()
    x[0, 0, 0, 0] = math.nan
    assert "the data themselves" in explain(
        pair.model, pair.guide, objective, Batch.of(x), earlier
    )
    assert torch.equal(torch.get_rng_state(), moved)
    assert not torch.equal(moved, random)
    assert [part.training for part in pair.modules()] == modes
    assert all(p.grad is g for p, g in zip(pair.parameters(), grads, strict=True))
    for tensor, value in zip(whole + grads, before, strict=True):
        assert torch.equal(tensor, value)
    assert pair.guide.trace.nodes == {}


def test_a_replay_draws_what_the_step_drew():
    svi = of(VAE((1, 4, 4), latent_dim=3), hidden_dims=(5,))
    drawn = []
    plain = svi.objective.differentiable_loss

    def noted(*args):
        loss = plain(*args)
        drawn.append(loss.detach())
        return loss * math.inf

    svi.objective.differentiable_loss = noted
    svi.guard = Guard()
    svi.step(Batch.of(torch.rand(6, 1, 4, 4)))
    assert len(drawn) == 2
    assert torch.equal(drawn[0], drawn[1])
    assert "the loss is inf" in svi.guard.last


class Registered(PerPixel):
    """A story that tells Pyro of its parameters, as Pyro's own examples do."""

    def forward(self, batch: Batch) -> torch.Tensor:
        pyro.module("loc", self.loc)
        return super().forward(batch)


@pytest.mark.parametrize(
    "loss", [pyro.infer.Trace_ELBO(), pyro.infer.TraceMeanField_ELBO(), ELBO()]
)
def test_a_replay_leaves_nothing_in_pyros_store(loss):
    svi = of(Registered(), objective=loss, hidden_dims=(5,))
    assert said(svi, Batch.of(torch.randn(6, 4))) == ""
    assert len(pyro.get_param_store()) == 0


@pytest.mark.parametrize("pair", ALLOWED, ids=name_of)
def test_every_pair_can_be_looked_at(pair):
    model, guide = build(pair)
    svi = SVI(model, guide, loss=objective_of(pair))
    x = observations(pair)
    assert said(svi, Batch.of(x)) == ""
    x.view(-1)[0] = math.nan
    assert said(svi, Batch.of(x)).startswith("the data themselves are nan in 1 of")
