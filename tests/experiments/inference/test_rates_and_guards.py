"""What a guard explains and what it must not skip, and which learning rates ``fit`` uses."""

import copy
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import infer

from experiments.inference.fit import fit
from experiments.inference.guard import Diverged, Guard
from experiments.inference.handlers import TemperKL
from experiments.inference.objectives import AnalyticKL
from experiments.inference.objectives.nvae import BalancedKL
from experiments.inference.optim import constant
from experiments.inference.svi import SVI
from experiments.runs.environment import determinism
from guides import GUIDES
from ppl_models import NVAE, Batch
from ppl_models.batch import data_plate
from tests.shared.linear_pair import SOME, Encoder, Linear, X


def test_a_series_that_began_before_an_interruption_is_explained():
    guard = Guard(most_skipped=3)
    guard.load_state_dict({"steps": 5, "skipped": 2, "consecutive": 2})
    with pytest.raises(Diverged, match=r"3 steps in a row were not finite; .*because"):
        guard.refuse(lambda: "because")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("loss", [infer.TraceGraph_ELBO(), infer.RenyiELBO(0.5)])
def test_a_guard_explains_steps_under_losses_of_pyro(loss):
    svi = SVI(Linear(), Encoder(), loss=loss, guard=Guard())
    gradients = svi.gradients

    def poisoned(batch):
        value = gradients(batch)
        svi.model.loc.grad[0] = math.inf
        return value

    svi.gradients = poisoned
    before = svi.model.loc.detach().clone()
    assert not svi.step(SOME).isfinite()
    assert svi.guard.skipped == 1
    assert torch.equal(svi.model.loc, before)


def test_a_torch_scheduler_keeps_its_rates_in_fit():
    """As one of Pyro does."""
    svi = SVI(Linear(), Encoder(), lambda parameters: torch.optim.SGD(parameters, lr=0.1))
    decay = torch.optim.lr_scheduler.ExponentialLR(svi.optimizers[0], 0.5)
    for _ in fit(svi, X, epochs=2, batch_size=4):
        decay.step()
    assert svi.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.1 * 0.5**2)


def test_a_rate_that_is_set_between_two_fits_counts():
    svi = SVI(Linear(), Encoder(), lambda parameters: torch.optim.SGD(parameters, lr=0.1))
    for rate in (0.1, 0.01):
        svi.optimizers[0].param_groups[0]["lr"] = rate
        for _ in fit(svi, X, epochs=1, batch_size=4, schedule=constant()):
            pass
        assert svi.optimizers[0].param_groups[0]["lr"] == pytest.approx(rate)


def test_a_rate_that_is_set_between_two_epochs_counts():
    svi = SVI(Linear(), Encoder(), lambda parameters: torch.optim.SGD(parameters, lr=0.1))
    (group,), rates = svi.optimizers[0].param_groups, []
    for progress in fit(svi, X, epochs=3, batch_size=4, schedule=constant()):
        rates.append(progress.lr)
        group["lr"] *= 0.5
    assert [*rates, group["lr"]] == pytest.approx([0.1, 0.05, 0.025, 0.0125])


def test_a_rate_that_anneal_sets_counts_for_its_step():
    svi = SVI(Linear(), Encoder(), lambda parameters: torch.optim.SGD(parameters, lr=0.1))
    (group,) = svi.optimizers[0].param_groups

    def halved(progress):
        group["lr"] *= 0.5

    steps = fit(svi, X, epochs=3, batch_size=4, schedule=constant(), anneal=halved)
    assert [progress.lr for progress in steps] == pytest.approx([0.05] * 3)
    assert group["lr"] == pytest.approx(0.1)


@pytest.mark.parametrize("loads", [False, True])
def test_a_rate_that_is_set_after_a_fit_was_left_counts(loads):
    """The cosine of that fit is not over: its generator, or a state of it, is still there."""
    svi = SVI(Linear(), Encoder(), lambda parameters: torch.optim.SGD(parameters, lr=0.1))
    left = fit(svi, X, epochs=4)
    next(left), next(left)
    if loads:
        svi.load_state_dict(copy.deepcopy(svi.state_dict()))
    svi.optimizers[0].param_groups[0]["lr"] = 0.01
    assert next(fit(svi, X, epochs=4)).lr == pytest.approx(0.01)


@pytest.mark.parametrize("optim", [pyro.optim.Adam({"lr": 0.1}), torch.optim.Adam, None])
def test_what_is_unfrozen_later_is_trained_as_pyros_svi_does(optim):
    model = Linear().requires_grad_(False)
    svi = SVI(model, Encoder(), optim)
    svi.step(SOME)
    model.requires_grad_(True)
    before = model.loc.detach().clone()
    svi.step(SOME)
    assert not torch.equal(model.loc, before)


def test_the_rate_that_is_told_is_that_of_what_is_trained():
    model = Linear().requires_grad_(False)
    guide = GUIDES["mean_field"](model, local_lr=0.2).for_data(len(X))
    assert next(fit(SVI(model, guide), X, epochs=1)).lr == pytest.approx(0.2)


def test_balancing_ends_where_the_factor_is_one_but_for_rounding():
    """A GPU's graph divides by N / B as by a reciprocal: 1 becomes the number below it."""
    model = NVAE((1, 8, 8), (1, 2), 2, 4, blocks=1, cells_per_block=1, depthwise=False, crop=0)
    guide = GUIDES["top_down"](model, cells_per_block=1)
    batch = Batch.of(torch.rand(4, 1, 8, 8).round())
    for parameter in guide.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.1)
    losses = []
    for objective, beta in ((BalancedKL((1, 2)), 1 - 2**-24), (AnalyticKL(), 1.0)):
        torch.manual_seed(2)
        with TemperKL(beta), torch.no_grad():
            losses.append(objective.differentiable_loss(model, guide, batch))
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-5)


def test_deterministic_algorithms_are_given_back_as_they_were():
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = True
    try:
        with determinism(True):
            assert not torch.backends.cudnn.benchmark
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.backends.cudnn.benchmark
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.benchmark = False


class Grey(Linear):
    def forward(self, batch):
        with data_plate(batch):
            x = dist.Bernoulli(logits=self.prior() + self.loc).to_event(1)
            return pyro.sample("x", x, obs=batch.x)


def test_data_outside_the_support_are_an_error_under_a_guard_too():
    svi = SVI(Grey(), Encoder(), guard=Guard())
    with pytest.raises(ValueError, match="outside the support of Bernoulli"):
        list(fit(svi, X.sigmoid(), epochs=1, batch_size=4))
