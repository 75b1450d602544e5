"""The tail index of importance weights, on the oracle."""

import math

import numpy as np
import pytest
import torch

from experiments.data import as_data
from experiments.evaluation.bayesian.arviz_adapter import pareto_k
from experiments.evaluation.khat import khat, weights_of_draws
from experiments.evaluation.oracle import (
    best_linear,
    diagonal_gap,
    gap_in_closed_form,
    tail_index,
)
from guides import GUIDES
from tests.shared.oracle import oracle


def test_the_best_linear_guide_has_the_gap_in_closed_form():
    model, x = oracle([6.0, 3.0, 2.0])
    gaps = gap_in_closed_form(model, best_linear(model), as_data(x))
    torch.testing.assert_close(gaps, diagonal_gap(model).expand(len(x)))


@pytest.mark.parametrize("scales", [[3.0, 2.0], [6.0, 3.0, 2.0], [6.0, 2.0]])
def test_it_recovers_the_tail_index(scales):
    model, x = oracle(scales)
    log_w = weights_of_draws(model, best_linear(model), as_data(x[:4]), 100_000)
    assert log_w.shape == (4, 100_000)
    found = khat(log_w)
    assert 0.2 < tail_index(model) < 0.85
    # the index is that of every datum; one estimate has a standard error of about 0.05
    assert found.mean().item() == pytest.approx(tail_index(model), abs=0.1)
    assert found.std() < 0.2


def test_the_exact_posterior_has_no_tail():
    model, x = oracle([6.0, 2.0])
    log_w = weights_of_draws(model, GUIDES["exact"](model), as_data(x[:3]), 200)
    assert (log_w - log_w.mean(1, keepdim=True)).abs().max() < 1e-9
    assert (khat(log_w) == 0).all()


def test_weights_are_chunked_and_per_datum():
    model, x = oracle([6.0, 2.0])
    guide = best_linear(model)
    log_w = weights_of_draws(model, guide, as_data(x), 300)
    evidence = model.marginal().log_prob(x)
    bound = log_w.logsumexp(1) - torch.tensor(300.0).log()
    assert (evidence - bound).abs().max() < 3
    assert (evidence - log_w.mean(1)).mean().item() == pytest.approx(
        diagonal_gap(model).item(), abs=0.05
    )


def test_too_few_draws_and_weights_that_are_not_finite():
    with pytest.raises(ValueError, match="10 draws are too few for a tail index: at least 25"):
        khat(torch.zeros(3, 10))
    model, x = oracle([6.0, 2.0])
    with torch.no_grad():
        x[1] = float("inf")
    data = as_data(torch.zeros_like(x))
    object.__setattr__(data, "pixels", x)
    with pytest.raises(ValueError, match="datum 1 has an importance weight that is not finite"):
        weights_of_draws(model, GUIDES["prior"](model), data, 30)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.75])
@pytest.mark.parametrize("k", [0.2, 0.6, 1.5])
def test_weights_of_zero_count_as_draws_below_the_tail(share, k):
    # weights above zero are Pareto with index k, so that the tail's index is k whatever the share
    log_w = k * torch.empty(4, 20_000).exponential_()
    zero = torch.rand_like(log_w) < share
    found = khat(log_w.masked_fill(zero, -math.inf))
    assert found.mean().item() == pytest.approx(k, abs=0.1)
    # PSIS ranks draws: a weight far below the tail is as good as zero
    low = log_w.masked_fill(zero, -600.0)
    np.testing.assert_allclose(found, pareto_k(low.numpy()), atol=1e-12)
    np.testing.assert_allclose(khat(low), found, atol=1e-12)


def test_equal_weights_above_zeros_are_not_called_perfect():
    log_w = torch.full((4, 200), -3.0)
    log_w[1, ::2] = -math.inf
    log_w[3] = 1e-3 * (1 + 2**-50 * (torch.arange(200) % 9))  # equal as exponentials
    log_w[2:, ::2] = -4.0
    assert khat(log_w).tolist() == [0, math.inf, math.inf, math.inf]


def test_large_densities_in_float32_that_vary_little_have_a_tail():
    """At 2e4 nats, 100 roundings are 0.24 nats: more than the tail of these weights spans."""
    u = torch.randn(4, 1000)
    for log_w in (2e4 + 0.08 * u, 800 - 0.1 * u.square()):
        assert khat(log_w.float()).max() < 0.5


def test_weights_without_a_tail_index_are_refused():
    log_w = torch.randn(3, 100)
    log_w[1, :90] = -math.inf
    with pytest.raises(ValueError, match=r"90\.0% of the importance weights of datum 1 are zero"):
        khat(log_w)
    for bad in (math.nan, math.inf):
        log_w[1] = 0.0
        log_w[1, 3] = bad
        with pytest.raises(ValueError, match="datum 1 has an importance weight that is not fin"):
            khat(log_w)


def test_a_guide_that_leaves_the_models_support_is_refused_with_the_share():
    model, x = oracle([6.0, 2.0])
    data = as_data(torch.zeros_like(x))
    object.__setattr__(data, "pixels", torch.full_like(x, float("inf")))
    with pytest.raises(ValueError, match=r"datum 0 .* not finite in nats: 100\.0% of its weights"):
        weights_of_draws(model, GUIDES["prior"](model), data, 30)


def test_the_best_linear_guide_far_from_the_origin():
    model, _ = oracle([6.0, 3.0])
    with torch.no_grad():
        model.mu.add_(1e9)  # slopes as differences of posteriors would keep six digits of them
    slopes = best_linear(model).encoder.head.weight[:2]
    exact = torch.linalg.solve(model.W.mT @ model.W + model.sigma**2 * torch.eye(2), model.W.mT)
    torch.testing.assert_close(slopes, exact, rtol=1e-12, atol=1e-12)
