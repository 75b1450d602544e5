"""Every instrument of ``gaps`` and ``calibrate`` on real MNIST, where PPCA knows the truth."""

import pytest
import torch

from experiments.data import as_data
from experiments.evaluation.ais import annealed_bound
from experiments.evaluation.bounds import mean_and_error
from experiments.evaluation.calibration import calibrate
from experiments.evaluation.gaps import interval, local_elbo
from experiments.evaluation.khat import UNRELIABLE, khat, weights_of_draws
from experiments.evaluation.oracle import (
    best_linear,
    diagonal_gap,
    gap_in_closed_form,
    rotate_to_largest_gap,
    tail_index,
)
from experiments.evaluation.tail_index import far_tail
from guides import GUIDES
from ppl_models import PPCA, Batch

pytestmark = pytest.mark.slow


@pytest.fixture(params=[10, 50], ids=lambda M: f"M={M}", scope="module")
def oracle(request, pixels):
    """The model in its worst basis, the best diagonal guide, and 200 test images."""
    train, test = pixels
    model = rotate_to_largest_gap(PPCA.maximum_likelihood(train, request.param))
    model = model.requires_grad_(False)
    return model, best_linear(model).requires_grad_(False), test[:200]


TRUTH = {10: (0.478, 0.517), 50: (11.465, 0.805)}


def in_its_plane(model, x):
    """The same posteriors, of x in the plane of W's columns: log w changes by a constant."""
    Q, R = torch.linalg.qr(model.W)
    small = PPCA(*R.shape).requires_grad_(False)
    small.W.copy_(R), small.mu.copy_(model.mu @ Q), small.log_sigma.copy_(model.log_sigma)
    same, posterior = small.posterior(x @ Q), model.posterior(x)
    torch.testing.assert_close(same.mean, posterior.mean)
    torch.testing.assert_close(same.precision_matrix, posterior.precision_matrix)
    return small, best_linear(small).requires_grad_(False), x @ Q


def test_the_gap_and_its_parts(oracle):
    model, guide, x = oracle
    gap, index = TRUTH[model.W.shape[1]]
    assert diagonal_gap(model).item() == pytest.approx(gap, abs=5e-4)
    assert tail_index(model) == pytest.approx(index, abs=5e-4)
    x = x[:100] if model.W.shape[1] == 10 else x[:50]
    exact = model.marginal().log_prob(x)
    data = as_data(x)
    elbo = weights_of_draws(model, guide, data, 1000).mean(1)
    local = local_elbo(model, guide, data, draws=1000).elbo
    print(f"approximation {(exact - local).mean():.4f}, amortisation {interval(local - elbo)}")
    assert (exact - local).mean().item() == pytest.approx(gap, rel=0.02)
    low, high = interval(local - elbo)
    assert low < 0 < high


def test_bounds_stay_below_and_come_close(oracle):
    model, guide, x = oracle
    small = model.W.shape[1] == 10
    exact = model.marginal().log_prob(x)
    if small:
        log_w = weights_of_draws(model, guide, as_data(x), 1000)
        importance = exact - log_w.logsumexp(1) + torch.tensor(1000.0).log()
        mean, error = mean_and_error(importance)
        print(f"exact - IW-1000: {mean:.4f} ± {error:.4f}")
        assert -2 * error <= mean <= 0.01
    steps = 100 if small else 500
    annealed = annealed_bound(model, guide, Batch.of(x[:20]), chains=8, steps=steps, leapfrog=3)
    mean, error = mean_and_error(exact[:20] - annealed.bound)
    print(f"exact - AIS: {mean:.4f} ± {error:.4f}")
    assert -2 * error <= mean <= 0.05 + 2 * error  # 20 images leave an error of 0.05 at M = 50


def test_the_tail_index(oracle):
    model, guide, x = in_its_plane(oracle[0], oracle[2][:20])
    found = khat(weights_of_draws(model, guide, as_data(x), 100_000)).mean().item()
    print(f"k-hat of 1e5 draws: {found:.3f}")
    if model.W.shape[1] == 10:
        assert found == pytest.approx(tail_index(model), abs=0.1)
    else:  # 35 directions with nearly the same tail: draws that a machine can make see no limit
        assert found > tail_index(model) > UNRELIABLE


def test_the_tail_index_from_draws_sent_there(oracle):
    """At M = 50 too. Images are repetitions: they change log w by a constant only."""
    model, guide, x = oracle
    draws, images = 100_000, 2
    if model.W.shape[1] == 50:
        draws, images = 20_000, 4
        model, guide, x = in_its_plane(model, x[:images])
    truth, found = tail_index(model), far_tail(model, guide, as_data(x), draws, images)
    error = (found.tail_index - truth).abs()
    print(
        f"tail index {found.tail_index.mean():.4f}, {truth:.4f} in closed form, off by at most "
        f"{error.max():.4f}; effective draws {found.effective.min():.0f} or more; the quadratic's "
        f"off by at most {(found.eigenvalue - truth).abs().max():.1e}, R^2 {found.r2.min():.8f}"
    )
    assert error.max() < 0.03
    assert (found.eigenvalue - truth).abs().max() < 1e-7


@pytest.mark.parametrize("name", ["exact", "full", "diagonal"])
def test_calibration(pixels, name):
    model = rotate_to_largest_gap(PPCA.maximum_likelihood(pixels[0], 10)).requires_grad_(False)
    guide = GUIDES["exact"](model) if name == "exact" else best_linear(model, name)
    if name == "full":
        x = as_data(pixels[1][:50])
        assert gap_in_closed_form(model, guide, x).abs().max() < 1e-8
    found = calibrate(model, guide, 10_000)
    print(f"{name}: passed {found.passed}, ends {found.ends.min():.3f} to {found.ends.max():.3f}")
    assert found.passed == (name != "diagonal")
    if name == "diagonal":  # too many ranks at both ends, but for a latent without correlations
        assert found.ends.mean() > 0.02
        assert (found.ends > -0.005).all()
