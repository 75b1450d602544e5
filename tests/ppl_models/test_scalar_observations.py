"""A datum that is a single number: data_shape (), [B] observations."""

import math

import pytest
import torch
from pyro import distributions as dist
from pyro import poutine

from ppl_models import VAE, Batch
from ppl_models.distributions import DiscretizedLogisticMixture, IsotropicNormal


def test_an_isotropic_normal_of_no_event_dimension_is_a_normal():
    loc, x, sigma = torch.randn(5), torch.randn(5), torch.tensor(0.3)
    found = IsotropicNormal(loc, sigma, 0).log_prob(x)
    torch.testing.assert_close(found, dist.Normal(loc, sigma).log_prob(x))


def test_a_discretized_logistic_of_no_event_dimension_has_a_value_per_row():
    logits, loc, log_scale = torch.zeros(5, 3), torch.rand(5, 3), torch.randn(5, 3)
    levels = torch.arange(4.0)[:, None].expand(4, 5) / 3
    p = DiscretizedLogisticMixture(logits, loc, log_scale, 3, 0).log_prob(levels).exp()
    torch.testing.assert_close(p.sum(0), torch.ones(5))


@pytest.mark.parametrize("likelihood", ["gaussian", "discretized_logistic"])
def test_the_evidence_of_rows_is_the_sum_of_that_of_each(likelihood):
    model = VAE((), latent_dim=1, likelihood=likelihood, hidden_dims=(4,)).requires_grad_(False)
    x, z = torch.rand(6).mul(255).round() / 255, torch.randn(6, 1)
    run = poutine.trace(poutine.condition(model, data={"z": z})).get_trace(Batch.of(x))
    run.compute_log_prob()
    assert run.nodes["x"]["log_prob"].shape == (6,)
    alone = 0.0
    for row in range(6):
        one = poutine.condition(model, data={"z": z[row : row + 1]})
        one = poutine.trace(one).get_trace(Batch.of(x[row : row + 1]))
        alone += one.nodes["x"]["fn"].log_prob(x[row : row + 1]).sum().item()
    assert run.nodes["x"]["log_prob_sum"].item() == pytest.approx(alone, rel=1e-10)
    assert math.isfinite(alone)


def test_a_low_rank_gaussian_of_one_number_keeps_its_rows_apart():
    model = VAE((), latent_dim=1, likelihood="low_rank", hidden_dims=(4,)).requires_grad_(False)
    z, x = torch.randn(3, 6, 1), torch.randn(6, 1)  # the event is flat, [1]
    p = model.likelihood.distribution(model.decoder(z))
    assert (p.batch_shape, p.event_shape) == ((3, 6), (1,))
    normal = dist.Normal(p.mean, p.variance.sqrt()).to_event(1)
    torch.testing.assert_close(p.log_prob(x), normal.log_prob(x))
