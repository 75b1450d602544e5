"""The rank of float64 data whose mean is far larger than their spread."""

import pytest
import torch

from ppl_models import PPCA


@pytest.mark.parametrize("seed", range(5))
def test_latent_dim_at_the_rank_is_refused_wherever_the_data_lie(seed):
    torch.manual_seed(seed)
    W = torch.randn(3, 10)
    x = torch.randn(500, 3) @ (W / W.norm(dim=0)) + 50.0  # variance about one, mean 50
    with pytest.raises(ValueError, match="rank 3, where sigma"):
        PPCA.maximum_likelihood(x, 3)


def test_one_row_or_equal_rows_are_refused_by_em_as_by_the_closed_form():
    for x in (torch.ones(1, 4), torch.ones(7, 4)):
        with pytest.raises(ValueError, match="constant"):
            PPCA(4, 2).em_step(x)
