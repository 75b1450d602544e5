"""Factors of densities that are tensors, as in a compiled step, are told apart like numbers."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from experiments.inference.handlers import TemperKL
from experiments.inference.objectives import OBJECTIVES
from experiments.inference.svi import SVI
from ppl_models import Batch
from ppl_models.batch import data_plate
from tests.shared.linear_pair import Encoder, HalfPrior, Linear, X


@pytest.mark.parametrize("beta", [0.3, torch.tensor(0.3)])
def test_what_has_no_closed_form_is_sampled_under_annealing_too(beta):
    losses = []
    for name in ("elbo", "elbo_analytic_kl"):
        torch.manual_seed(0)
        with TemperKL(beta):
            svi = SVI(HalfPrior(), Encoder(), loss=OBJECTIVES[name]())
            losses.append(svi.evaluate_loss(Batch.of(X)))
    torch.testing.assert_close(*losses)


def weights(batch, by_row):
    return batch.given["w"] if by_row else batch.given["w"].mean()


class Weighted(Linear):
    """A prior that counts as the rows weigh, or as they do on average."""

    def __init__(self, by_row) -> None:
        super().__init__()
        self.by_row = by_row

    def forward(self, batch):
        with data_plate(batch):
            with poutine.scale(scale=weights(batch, self.by_row)):
                z = self.prior()
            x = dist.Normal(self.mean(z, batch), 1.0).to_event(1)
            return pyro.sample("x", x, obs=batch.x)


class Weighing(Encoder):
    """A q that counts as often as ``Weighted``, or another number of times."""

    def __init__(self, by_row, factor) -> None:
        super().__init__()
        self.by_row, self.factor = by_row, factor

    def forward(self, batch):
        with data_plate(batch), poutine.scale(scale=self.factor * weights(batch, self.by_row)):
            pyro.sample("z", self.q(batch))


def weighted(by_row, factor, objective, **options):
    torch.manual_seed(0)
    batch = Batch.of(X, {"w": 0.5 + torch.rand(len(X))})
    return SVI(Weighted(by_row), Weighing(by_row, factor), loss=objective, **options), batch


SAMPLED = {"elbo_analytic_kl": (20_000,), "elbo_free_bits": (20_000, 0.0)}


@pytest.mark.parametrize("factor", [1.0, 2.0])
@pytest.mark.parametrize(
    ("name", "by_row"),
    [("elbo_analytic_kl", False), ("elbo_analytic_kl", True), ("elbo_free_bits", False)],
)
def test_a_closed_form_counts_two_tensors_as_the_elbo_does(name, by_row, factor):
    losses = []
    for objective in (OBJECTIVES["elbo"](20_000), OBJECTIVES[name](*SAMPLED[name])):
        svi, batch = weighted(by_row, factor, objective)
        losses.append(svi.evaluate_loss(batch))
    torch.testing.assert_close(*losses, atol=0.03, rtol=0)


def test_free_bits_take_no_weights_of_rows():
    svi, batch = weighted(True, 1.0, OBJECTIVES["elbo_free_bits"]())
    with pytest.raises(ValueError, match="one scale of 'z' in model and guide"):
        svi.evaluate_loss(batch)


def test_a_compiled_step_counts_two_tensors_as_an_eager_one(as_traced):
    losses = []
    for compile in (False, True):
        svi, batch = weighted(True, 2.0, OBJECTIVES["elbo_analytic_kl"](), compile=compile)
        losses.append(svi.step(batch))
    assert not svi.compiled.reasons
    torch.testing.assert_close(*losses)
