"""PPCA is the oracle: everything it claims is checked against dense linear algebra."""

import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA as SklearnPCA
from torch.distributions import MultivariateNormal

from experiments.evaluation.oracle import (
    diagonal_gap,
    equal_diagonal_rotation,
    rotate_to_largest_gap,
)
from ppl_models import PCA, PPCA, Batch


def data(count=200, dim=9):
    return torch.randn(count, dim) @ torch.randn(dim, dim) + torch.randn(dim)


def test_pca_is_sklearns():
    x = data()
    ours, theirs = PCA(x, 4), SklearnPCA(4).fit(x.numpy())
    expected = theirs.inverse_transform(theirs.transform(x.numpy()))
    torch.testing.assert_close(ours.decode(ours.encode(x)), torch.from_numpy(expected))
    error = (x - torch.from_numpy(expected)).square().sum(1)
    torch.testing.assert_close(ours.squared_error(x), error)


def test_marginal_is_the_dense_normal():
    model, x = PPCA(9, 4), data()
    C = model.W @ model.W.mT + model.sigma**2 * torch.eye(9)
    dense = MultivariateNormal(model.mu, covariance_matrix=C)
    torch.testing.assert_close(model.marginal().log_prob(x), dense.log_prob(x))


def test_posterior_is_bayes_rule():
    model, x = PPCA(9, 4), data()
    z = torch.randn(200, 4)
    joint = model.prior().log_prob(z) + model.likelihood(z).log_prob(x)
    expected = joint - model.marginal().log_prob(x)
    torch.testing.assert_close(model.posterior(x).log_prob(z), expected)


def test_posterior_of_some_pixels_ignores_the_others():
    model, x = PPCA(9, 4), data()
    seen = torch.tensor([True, False] * 4 + [True])
    joint = torch.cat([model.W[seen], torch.eye(4)])  # of the observed pixels and z
    covariance = joint @ joint.mT + torch.diag(
        torch.cat([model.sigma.square().expand(5), torch.zeros(4)])
    )
    gain = covariance[5:, :5] @ torch.linalg.inv(covariance[:5, :5])
    posterior = model.posterior(x, observed=seen)
    torch.testing.assert_close(posterior.mean, (x - model.mu)[:, seen] @ gain.mT)
    expected = covariance[5:, 5:] - gain @ covariance[:5, 5:]
    torch.testing.assert_close(posterior.covariance_matrix[0], expected)


@pytest.mark.parametrize("offset", [0.0, 1e2, 1e4, 1e5])
def test_the_posterior_in_float32_keeps_its_digits_far_from_the_origin(offset):
    x = (offset + torch.randn(400, 2) @ torch.randn(2, 64) + 0.1 * torch.randn(400, 64)).float()
    model = PPCA.maximum_likelihood(x, 2).requires_grad_(False)
    W, mu, variance = (t.double() for t in (model.W, model.mu, model.sigma**2))
    M = W.mT @ W + variance * torch.eye(2)
    exact = torch.linalg.solve(M, W.mT @ (x.double() - mu).mT).mT
    deviation = (variance * torch.linalg.inv(M).diagonal()).sqrt()
    assert ((model.posterior(x).mean - exact) / deviation).abs().max() < 1e-3


def test_em_in_float32_reaches_a_sigma_far_below_the_data():
    x = (100 * torch.randn(400, 2) @ torch.randn(2, 30) + 1e-2 * torch.randn(400, 30)).float()
    best, model = PPCA.maximum_likelihood(x, 2), PPCA(30, 2).float()
    for _ in range(30):
        model.em_step(x)
    assert model.sigma.item() == pytest.approx(best.sigma.item(), rel=1e-2)


def test_maximum_likelihood_scores_as_sklearn():
    x = data(500, 12)
    model = PPCA.maximum_likelihood(x, 5, correction=1)
    expected = SklearnPCA(5, svd_solver="full").fit(x.numpy()).score(x.numpy())
    assert model.marginal().log_prob(x).mean().item() == pytest.approx(expected, abs=1e-9)


def test_maximum_likelihood_is_a_stationary_point_and_em_reaches_it():
    x = data(300, 8)
    best = PPCA.maximum_likelihood(x, 3)
    loss = -best.marginal().log_prob(x).mean()
    loss.backward()
    for parameter in best.parameters():
        assert parameter.grad.abs().max() < 1e-10
    model, previous = PPCA(8, 3), float("inf")
    for _ in range(2000):
        model.em_step(x)
        current = -model.marginal().log_prob(x).mean().item()
        assert current <= previous + 1e-12
        previous = current
    assert current == pytest.approx(loss.item(), abs=1e-9)


def test_maximum_likelihood_of_equal_eigenvalues():
    """All are 0.1, and the mean of three of them is 0.1 + 1e-17."""
    x = torch.cat([torch.eye(10), -torch.eye(10)])
    model = PPCA.maximum_likelihood(x, 7)
    torch.testing.assert_close(model.W.data, torch.zeros(10, 7), rtol=0, atol=1e-7)
    assert model.sigma.item() == pytest.approx(0.1**0.5)


def test_latent_dim_at_the_rank_is_refused():
    x = torch.randn(50, 3) @ torch.randn(3, 10)
    PPCA.maximum_likelihood(x, 2)
    with pytest.raises(ValueError, match="rank 3, where sigma"):
        PPCA.maximum_likelihood(x, 3)


@pytest.mark.parametrize(("data_dim", "latent_dim"), [(0, 1), (5, 0), (5, 6), (5, -1)])
def test_impossible_sizes_are_refused(data_dim, latent_dim):
    with pytest.raises(ValueError, match="must"):
        PPCA(data_dim, latent_dim)


@settings(max_examples=25, deadline=None)
@given(dim=st.integers(1, 12), seed=st.integers(0, 1000))
def test_rotation_equalises_the_diagonal(dim, seed):
    torch.manual_seed(seed)
    factor = torch.randn(dim, dim + 2)
    A = factor @ factor.mT
    R = equal_diagonal_rotation(A)
    torch.testing.assert_close(R @ R.mT, torch.eye(dim), rtol=0, atol=1e-10)
    diagonal = (R.mT @ A @ R).diagonal()
    torch.testing.assert_close(diagonal, A.diagonal().mean().expand(dim), rtol=1e-8, atol=1e-8)


def test_rotation_keeps_the_marginal_and_opens_the_gap():
    x = data()
    model = PPCA.maximum_likelihood(x, 4)
    turned = rotate_to_largest_gap(model)
    torch.testing.assert_close(turned.marginal().log_prob(x), model.marginal().log_prob(x))
    assert diagonal_gap(model).item() == pytest.approx(0, abs=1e-12)
    assert diagonal_gap(turned).item() > 0.1


class Named(PPCA):
    """The same story, from a constructor of its own."""

    def __init__(self, name):
        super().__init__(4, 2)
        self.name = name


class Heavy(PPCA):
    def prior(self):
        return dist.Laplace(self.W.new_zeros(2), 1.0).to_event(1)


def test_a_rotated_model_is_of_the_same_class_or_refused():
    model, rotation = Named("mine").requires_grad_(False), torch.eye(2).flip(0)
    turned = model.rotated(rotation)
    assert type(turned) is Named
    assert turned.name == "mine"
    assert all(parameter.requires_grad for parameter in turned.parameters())
    torch.testing.assert_close(turned.W, model.W.flip(1))
    turned.mu.data.add_(1)
    assert (model.mu == 0).all()
    with pytest.raises(ValueError, match="Heavy overrides a part of PPCA's story"):
        Heavy(4, 2).rotated(rotation)


@settings(max_examples=30, deadline=None)
@given(
    batch=st.integers(1, 5),
    data_dim=st.integers(1, 6),
    latent=st.integers(1, 6),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_shapes_and_dtypes(batch, data_dim, latent, dtype):
    model = PPCA(data_dim, min(latent, data_dim)).to(dtype)
    x = model(Batch.draw(batch))
    assert x.shape == (batch, data_dim)
    assert x.dtype == dtype
    assert model.posterior(x).mean.shape == (batch, min(latent, data_dim))
