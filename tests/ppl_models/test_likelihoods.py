"""Every likelihood integrates, or sums, to one over its pixels, and says its own mean."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from experiments import train
from experiments.data import Data, load
from experiments.data.transforms import Scale
from experiments.runs.cli import cli
from ppl_models import VAE, Batch
from ppl_models.distributions.discretized import DiscretizedLogisticMixture
from ppl_models.likelihoods import LIKELIHOODS

PIXEL = (1, 1, 1)
CONTINUOUS = {
    "gaussian": (-60, 60),
    "gaussian_per_pixel": (-60, 60),
    "gaussian_decoder": (-60, 60),
    "continuous_bernoulli": (0, 1),
    "logit_normal": (0, 1),
    "beta": (0, 1),
}


def pixel_distribution(name, seed):
    torch.manual_seed(seed)
    likelihood = LIKELIHOODS[name](PIXEL)
    return likelihood.distribution(torch.randn(likelihood.parameters_per_pixel, *PIXEL))


@pytest.mark.parametrize("name", CONTINUOUS)
@pytest.mark.parametrize("seed", range(4))
def test_densities_integrate_to_one_and_have_their_mean(name, seed):
    p = pixel_distribution(name, seed)
    low, high = CONTINUOUS[name]

    def density(x):
        with torch.no_grad():
            return p.log_prob(torch.full(PIXEL, float(x))).exp().item()

    middle = float(p.mean)
    # the logit's density has its mass on a logarithmic scale near the edges of (0, 1)
    points = [t for t in (1e-9, 1e-6, 1e-3, middle, 1 - 1e-3, 1 - 1e-6) if low < t < high]
    edges = [low, *sorted(points), high]

    def integral(f):
        parts = itertools.pairwise(edges)
        return sum(quad(f, a, b, epsabs=1e-10, epsrel=1e-9, limit=300)[0] for a, b in parts)

    assert integral(density) == pytest.approx(1, abs=1e-6)
    assert integral(lambda x: x * density(x)) == pytest.approx(middle, abs=1e-5)


def test_low_rank_gaussian_integrates_to_one():
    likelihood = LIKELIHOODS["low_rank"]((1, 1, 2))
    p = likelihood.distribution(torch.randn(likelihood.parameters_per_pixel, 1, 1, 2))
    half = 12 * p.variance.max().sqrt()
    axis = torch.linspace(-1, 1, 801) * half
    grid = torch.cartesian_prod(axis, axis) + p.mean
    cell = (axis[1] - axis[0]) ** 2
    assert (p.log_prob(grid).exp().sum() * cell).item() == pytest.approx(1, abs=1e-6)
    assert p.covariance_matrix[0, 1].abs() > 1e-4


def test_bernoulli_sums_to_one():
    p = pixel_distribution("bernoulli", 0)
    total = sum(p.log_prob(torch.full(PIXEL, float(x))).exp() for x in (0, 1))
    assert total.item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("name", ["discretized_logistic", "discretized_logistic_mixture"])
@pytest.mark.parametrize("seed", range(4))
def test_probabilities_of_levels_sum_to_one(name, seed):
    torch.manual_seed(seed)
    likelihood = LIKELIHOODS[name]((3, 1, 1))
    p = likelihood.distribution(torch.randn(likelihood.parameters_per_pixel, 3, 1, 1))
    levels = torch.arange(256.0) / 255
    one = DiscretizedLogisticMixture(
        *(t[..., :1, :, :] for t in (p.logits, p.loc, p.log_scale)), 255, 3
    )
    probabilities = one.log_prob(levels.reshape(256, 1, 1, 1)).exp()
    assert probabilities.sum().item() == pytest.approx(1, abs=1e-6)
    assert (probabilities * levels).sum().item() == pytest.approx(one.mean.item(), abs=1e-6)
    draws = one.sample((20000,)).flatten()
    assert set((draws * 255).round().unique().tolist()) <= set(range(256))
    error = 5 * draws.std().item() / np.sqrt(20000)
    assert draws.mean().item() == pytest.approx(one.mean.item(), abs=error)


def test_narrow_bins_far_from_the_mean_keep_a_finite_gradient():
    logits, loc = torch.zeros(1, 1, 1, 1), torch.full((1, 1, 1, 1), 0.9, requires_grad=True)
    log_scale = torch.full((1, 1, 1, 1), -7.0, requires_grad=True)
    p = DiscretizedLogisticMixture(logits, loc, log_scale, 255, 3)
    p.log_prob(torch.full((1, 1, 1), 20 / 255)).backward()
    assert loc.grad.isfinite().all()
    assert log_scale.grad.isfinite().all()


@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize("network", ["mlp", "conv"])
@pytest.mark.parametrize("particles", [1, 3])
def test_a_vae_of_every_family_generates_and_scores_images(name, network, particles):
    shape = (3, 8, 8)
    model = VAE(shape, likelihood=name, network=network, hidden_dims=(5,))
    x = model(Batch.draw(4))
    assert x.shape[0] == 4
    assert x.numel() == 4 * 3 * 64
    z = torch.randn(particles, 4, 2)
    p = model.likelihood.distribution(model.decoder(z))
    x = torch.full_like(x, 0.25) if name != "bernoulli" else torch.ones_like(x)
    assert p.log_prob(x).shape == (particles, 4)
    assert p.mean.shape == (particles, *x.shape)


def test_dequantised_pixels_lie_inside_the_unit_interval():
    data = load("digits", dequantize=True)[0]
    assert data.kind == "grey-dequantised"
    x = data.observations()
    assert 0 < x.min() < x.max() < 1
    assert (x != data.observations()).any()
    fixed = data.fixed()
    assert (fixed.observations() == fixed.observations()).all()
    assert fixed.kind == "grey-dequantised"
    grey = load("digits")[0].observations()
    assert ((x * 17).floor() == (grey * 16)).all()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--likelihood", "bernoulli"], ["binary", "the data are grey", "gaussian_decoder"]),
        (["--likelihood", "beta"], ["grey-dequantised", "--dequantize"]),
        (["--binarize", "static"], ["the data are binary", "bernoulli"]),
        (["--likelihood", "discretized_logistic"], ["256 levels", "17 levels"]),
        (["--likelihood", "poisson"], ["'poisson' is unknown"]),
        (["--binarize", "static", "--dequantize"], ["--dequantize is for grey pixels"]),
    ],
)
def test_a_likelihood_that_does_not_fit_the_pixels_is_refused(
    capsys, monkeypatch, tmp_path, args, words
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        cli(train.Config, train.main, ["--model", "vae", "--data", "digits", *args])
    assert end.value.code == 2
    line = capsys.readouterr().err.strip()
    assert "\n" not in line
    for word in words:
        assert word in line


def test_dequantised_pixels_never_reach_an_end():
    white = Data(torch.full((400, 1, 64, 64), 255, dtype=torch.uint8), transforms=(Scale(255),))
    black = replace(white, pixels=torch.zeros_like(white.pixels))
    for data in (white.dequantized(0), black.dequantized(0)):
        for pixels in (data, data.fixed()):
            x = pixels.observations().float()
            assert x.min() > 0
            assert x.max() < 1
