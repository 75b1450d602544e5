"""The tail index of importance weights, on the oracle."""

import pytest
import torch

from experiments.data import as_data
from experiments.evaluation.khat import khat, weights_of_draws
from experiments.evaluation.oracle import (
    best_linear,
    diagonal_gap,
    gap_in_closed_form,
    rotate_to_largest_gap,
    tail_index,
)
from guides import GUIDES
from ppl_models import PPCA, Batch


def oracle(scales):
    truth = PPCA(8, len(scales))
    with torch.no_grad():
        truth.W.mul_(torch.tensor(scales))
        x = truth(Batch.draw(60))
    model = rotate_to_largest_gap(PPCA.maximum_likelihood(x, len(scales)))
    return model.requires_grad_(False), x


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
