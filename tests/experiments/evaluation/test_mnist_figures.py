"""The closed form on real MNIST, to six digits."""

import pytest
import torch

from ppl_models import PCA, PPCA

# M, sigma^2, train and test log p(x), test squared error of PCA and of PPCA's posterior mean
TABLE = [
    (2, 0.05609581, 12.42766, 14.36008, 43.64488, 43.64641),
    (10, 0.03486734, 182.15468, 186.02407, 26.71387, 26.71958),
    (32, 0.01797658, 400.43269, 409.41487, 13.19334, 13.20797),
    (50, 0.01259605, 507.90538, 517.60333, 9.00425, 9.02365),
    (100, 0.00658072, 680.95176, 689.32213, 4.40284, 4.43296),
]


def mean_log_prob(marginal, x):
    return torch.cat([marginal.log_prob(rows) for rows in x.split(4096)]).mean().item()


@pytest.mark.slow
@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"M={row[0]}")
def test_closed_form(pixels, row):
    train, test = pixels
    latent_dim, variance, train_log_p, test_log_p, pca_error, ppca_error = row
    with torch.no_grad():
        model = PPCA.maximum_likelihood(train, latent_dim)
        marginal = model.marginal()
        assert model.sigma.square().item() == pytest.approx(variance, abs=6e-9)
        assert mean_log_prob(marginal, train) == pytest.approx(train_log_p, abs=6e-6)
        assert mean_log_prob(marginal, test) == pytest.approx(test_log_p, abs=6e-6)
        means = model.likelihood(model.posterior(test).mean).mean
        assert (test - means).square().sum(1).mean().item() == pytest.approx(ppca_error, abs=6e-6)
        error = PCA(train, latent_dim).squared_error(test).mean().item()
        assert error == pytest.approx(pca_error, abs=6e-6)


@pytest.mark.slow
def test_scikit_learn_scores_the_same(pixels):
    from sklearn.decomposition import PCA as SklearnPCA

    train, _ = pixels
    theirs = SklearnPCA(10, svd_solver="covariance_eigh").fit(train.numpy())
    ours = PPCA.maximum_likelihood(train, 10, correction=1)
    score = mean_log_prob(ours.marginal(), train)
    assert score == pytest.approx(theirs.score(train.numpy()), abs=1e-9)


def test_the_rank_of_mnist_is_refused(pixels):
    with pytest.raises(ValueError, match=r"between 1 and 71[0-9]: the data have rank 71"):
        PPCA.maximum_likelihood(pixels[0], 720)
