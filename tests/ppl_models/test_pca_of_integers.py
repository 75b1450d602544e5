"""Integers are numbers too: bytes of images, counts."""

import pytest
import torch

from ppl_models import PCA, PPCA


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_pca_of_integers_is_that_of_the_same_floats(dtype):
    x = torch.randint(0, 255, (60, 5), dtype=dtype)
    ours, theirs = PCA(x, 2), PCA(x.double(), 2)
    torch.testing.assert_close(ours.components, theirs.components)
    torch.testing.assert_close(ours.mean, theirs.mean)
    torch.testing.assert_close(ours.squared_error(x), theirs.squared_error(x.double()))


def test_maximum_likelihood_of_integers():
    x = torch.randint(0, 255, (60, 5))
    ours, theirs = PPCA.maximum_likelihood(x, 2), PPCA.maximum_likelihood(x.double(), 2)
    torch.testing.assert_close(ours.sigma, theirs.sigma)
    torch.testing.assert_close(ours.W @ ours.W.mT, theirs.W @ theirs.W.mT)


def test_log_p_of_integers_is_not_rounded_to_integers():
    x = torch.randint(0, 255, (60, 5))
    marginal = PPCA.maximum_likelihood(x, 2).marginal()
    torch.testing.assert_close(marginal.log_prob(x), marginal.log_prob(x.double()))
