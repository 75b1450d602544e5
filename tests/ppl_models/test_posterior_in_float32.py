"""The posterior in float32 where sigma is small and W has fewer directions than columns."""

import pytest
import torch

from experiments.evaluation.oracle import diagonal_gap, rotate_to_largest_gap
from ppl_models import PPCA


def pair(W, sigma):
    model = PPCA(*W.shape)
    with torch.no_grad():
        model.W.copy_(W), model.log_sigma.fill_(sigma).log_()
    single = PPCA(*W.shape).float()
    single.load_state_dict(model.state_dict())
    return model.requires_grad_(False), single.requires_grad_(False)


def test_the_posterior_of_parallel_columns_in_float32():
    """W⊤W / sigma^2 is 3e9, where adding I changes no float32."""
    w = torch.full((30, 1), 10.0)
    double, single = pair(torch.cat([w, w], 1), 1e-3)
    x = (torch.randn(5, 1) @ w.mT).float()
    exact, found = double.posterior(x.double()), single.posterior(x)
    torch.testing.assert_close(found.mean.double(), exact.mean, rtol=1e-3, atol=1e-3)
    expected = exact.covariance_matrix
    torch.testing.assert_close(found.covariance_matrix.double(), expected, rtol=1e-3, atol=1e-4)
    # the marginal is computed in float64, and is right already
    log_p = double.marginal().log_prob(x.double())
    torch.testing.assert_close(single.marginal().log_prob(x).double(), log_p, rtol=1e-3, atol=0.5)


def test_the_gap_of_parallel_columns_in_float32():
    w = torch.full((30, 1), 10.0)
    W = torch.cat([w, w / 2], 1)
    double, single = pair(W, 1e-3)
    assert diagonal_gap(double).item() == pytest.approx(10.106, abs=1e-3)
    assert diagonal_gap(single).item() == pytest.approx(diagonal_gap(double).item(), abs=1e-4)
    assert diagonal_gap(single).dtype == torch.float32
    assert diagonal_gap(rotate_to_largest_gap(single)).item() == pytest.approx(10.329, abs=1e-3)
    turned = rotate_to_largest_gap(pair(W, 1e-9)[1]).W  # W⊤W / sigma^2 squared overflows
    first, second = turned.square().sum(0).tolist()
    assert first == pytest.approx(second, rel=1e-5)


def test_em_in_float32_survives_a_column_that_the_data_do_not_need():
    x = (100 * torch.randn(400, 1) @ torch.randn(1, 30) + 1e-2 * torch.randn(400, 30)).float()
    best, model = PPCA.maximum_likelihood(x, 2), PPCA(30, 2).float()
    for _ in range(30):
        model.em_step(x)
    assert abs(model.sigma.item() / best.sigma.item() - 1) < 0.05
