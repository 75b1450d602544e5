"""Steps of one of two optimizers, second looks, averages, rates and restored states."""

import copy

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from experiments.inference.average import WeightAverage
from experiments.inference.fit import fit
from experiments.inference.objectives import ELBO, STL, DReG
from experiments.inference.optim import RowAdam, constant
from experiments.inference.svi import SVI
from guides.local import LocalTable
from ppl_models.batch import data_plate
from tests.shared.linear_pair import SOME, D, Decoder, Encoder, Linear, Normed, X


def test_a_step_uses_no_gradients_of_another_svis_steps():
    model, guide = Linear(), Encoder()
    inner = SVI(model, guide, torch.optim.SGD(guide.parameters(), lr=0.01))
    outer = SVI(model, guide, torch.optim.SGD(model.parameters(), lr=0.1))
    for seed in range(3):
        torch.manual_seed(seed)
        inner.step(SOME)
    torch.manual_seed(9)
    loss = ELBO().differentiable_loss(model, guide, SOME) / SOME.size
    (gradient,) = torch.autograd.grad(loss, [model.loc])
    wanted = model.loc.detach() - 0.1 * gradient
    torch.manual_seed(9)
    outer.step(SOME)
    torch.testing.assert_close(model.loc.detach(), wanted)


def test_a_step_uses_no_gradients_that_a_look_at_them_left():
    moved = []
    for looks in (False, True):
        svi = SVI(Linear(), Encoder(), lambda parameters: torch.optim.SGD(parameters, lr=0.1))
        if looks:
            ELBO().differentiable_loss(svi.model, svi.guide, SOME).backward()
        torch.manual_seed(0)
        svi.step(SOME)
        moved.append(svi.model.loc.detach())
    assert torch.equal(*moved)


class Two(Linear):
    def forward(self, batch):
        with data_plate(batch):
            z = self.prior()
            w = pyro.sample("w", dist.Normal(torch.zeros(D), 1.0).to_event(1))
            x = dist.Normal(z + w + self.loc, 1.0).to_event(1)
            return pyro.sample("x", x, obs=batch.x)


@pytest.mark.parametrize("objective", [STL(), DReG(1)])
def test_one_step_moves_running_means_once(objective):
    guide = Normed("z", "w")
    SVI(Two(), guide, loss=objective).step(SOME)
    assert guide.norm.num_batches_tracked.item() == 1
    torch.testing.assert_close(guide.norm.running_mean, 0.1 * SOME.x.mean(0))


def test_an_evaluation_moves_no_running_means():
    guide = Normed("z", "w")
    SVI(Two(), guide).evaluate_loss(SOME)
    assert guide.norm.num_batches_tracked.item() == 0
    assert guide.norm.running_mean.abs().max() == 0


class WithMask(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(2))
        self.register_buffer("causal", torch.full((3, 3), -torch.inf).triu(1))
        self.register_buffer("order", torch.arange(1000))


def averaged(decay):
    module = WithMask()
    average = WeightAverage(module, decay)
    for _ in range(3):
        average.update()
    return module, average.weights


def test_an_infinite_buffer_stays_infinite():
    module, weights = averaged(0.9)
    assert torch.equal(weights.causal, module.causal)


def test_positions_stay_positions():
    torch.set_default_dtype(torch.float32)  # the fixture of conftest puts it back
    module, weights = averaged(0.9999)
    assert torch.equal(weights.order, module.order)


def test_restored_counts_lie_where_the_rows_lie():
    read = LocalTable(3, torch.zeros(2))  # on the CPU
    saved = copy.deepcopy(RowAdam([read]).state_dict())
    table = LocalTable(3, torch.zeros(2)).to("meta")  # stands for a GPU
    optimizer = RowAdam([table])
    optimizer.load_state_dict(saved)
    assert {name: value.device.type for name, value in optimizer.state[table.rows].items()} == {
        "step": "meta",
        "exp_avg": "meta",
        "exp_avg_sq": "meta",
    }


def test_clipped_adam_keeps_its_decay_in_fit():
    svi = SVI(Linear(), Encoder(), pyro.optim.ClippedAdam({"lr": 0.01, "lrd": 0.9}))
    for _ in fit(svi, X, epochs=2, batch_size=4, schedule=constant()):
        pass
    rates = [group["lr"] for group in svi.optimizers[0].param_groups if "lr" in group]
    assert rates == pytest.approx([0.01 * 0.9**6] * 2)


def test_loading_the_present_state_between_epochs_changes_nothing():
    finals = []
    for loads in (False, True):
        torch.manual_seed(0)
        svi = SVI(Linear(), Encoder(), lambda p: torch.optim.SGD(p, lr=0.1))
        for progress in fit(svi, X, epochs=4, batch_size=4):
            if loads and progress.epoch == 2:
                svi.load_state_dict(copy.deepcopy(svi.state_dict()))
        finals.append((svi.optimizers[0].param_groups[0]["lr"], svi.model.loc.detach().clone()))
    assert finals[1][0] == finals[0][0]
    assert torch.equal(finals[1][1], finals[0][1])


@pytest.mark.parametrize("of", ["pyro", "torch"])
def test_a_frozen_pair_has_nothing_to_train(of):
    model, guide = Linear().requires_grad_(False), Encoder().requires_grad_(False)
    optim = pyro.optim.Adam({"lr": 0.01})
    if of == "torch":
        optim = torch.optim.Adam([*model.parameters(), *guide.parameters()])
    svi = SVI(model, guide, optim)
    assert list(fit(svi, X, epochs=1)) == []
    with pytest.raises(ValueError, match="nothing to train"):
        svi.step(SOME)


CHANGES = {
    "a layer": lambda model: setattr(model, "decoder", nn.Linear(D, D)),
    "a state": lambda model: model.load_state_dict(Decoder().state_dict(), assign=True),
}


@pytest.mark.parametrize("change", CHANGES)
def test_replaced_parameters_that_would_not_be_trained_are_refused(change):
    model, guide = Decoder(), Encoder()
    whole, of_guide = SVI(model, guide), SVI(model, guide, torch.optim.Adam(guide.parameters()))
    CHANGES[change](model)
    with pytest.raises(ValueError, match="were replaced after SVI was made"):
        next(fit(whole, X, epochs=1))
    for svi in (of_guide, SVI(model, guide)):
        assert next(fit(svi, X, epochs=1)).complete


def test_an_optimizer_that_needs_a_closure_is_refused_when_it_is_given():
    model, guide = Linear(), Encoder()
    with pytest.raises(TypeError, match="LBFGS"):
        SVI(model, guide, torch.optim.LBFGS([*model.parameters(), *guide.parameters()]))
