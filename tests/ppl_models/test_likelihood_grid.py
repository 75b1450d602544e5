"""Likelihoods over the whole range of parameters: the bounds of the table in docs/results.md."""

import json

import mpmath as mp
import numpy as np
import pyro
import pytest
import torch
from scipy import stats
from scipy.special import expit, ndtr
from torch.fx.experimental.proxy_tensor import make_fx

from ppl_models.distributions.beta import StableBeta
from ppl_models.distributions.continuous_bernoulli import ContinuousBernoulli
from ppl_models.distributions.discretized import DiscretizedLogisticMixture
from ppl_models.distributions.normals import PROBIT_MIXTURE, LogitNormal, LowRankNormal
from ppl_models.likelihoods import LIKELIHOODS
from tests.experiments.explorer.test_explore import in_node
from tests.shared.likelihood_grid import deviations

LOGITS = (0.0, 1e-30, 1e-8, 1e-3, 0.1, 0.499, 0.501, 2.0, 16.0, 20.0, 88.0, 500.0, 1e3, 1e6, 1e30)
EXTREMES = (-1000.0, -50.0, 0.0, 0.5, 50.0, 1000.0)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_every_family_is_the_textbooks_from_minus_to_plus_1000(name):
    found = deviations(name)
    # under low_rank digits go with the condition of the 2 x 2 covariance, up to 1e11 here
    wide = name == "low_rank"
    assert found["integral"] < (1e-6 if wide else 1e-10)
    assert found["mean"] < (3e-9 if name == "logit_normal" else 1e-12)
    assert found["gradient"] < (1e-7 if wide else 1e-12)
    assert found["log p"] < (1e-7 if wide else 1e-12)


def mean_and_variance(logit: float) -> tuple[float, float]:
    """Of a continuous Bernoulli, in closed form with 120 digits."""
    with mp.workdps(120):
        if not logit:
            return 0.5, 1 / 12
        away = mp.expm1(-mp.mpf(abs(logit)))
        mean, variance = (
            -1 / away - 1 / mp.mpf(abs(logit)),
            mp.mpf(logit) ** -2 - (1 + away) / away**2,
        )
        return float(mean if logit > 0 else 1 - mean), float(variance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_continuous_bernoulli_keeps_its_digits_at_every_logit(dtype, sign):
    eps = torch.finfo(dtype).eps
    logits = (sign * torch.tensor(LOGITS, dtype=dtype)).requires_grad_()
    exact = torch.tensor([mean_and_variance(logit) for logit in logits.tolist()])
    p, x = ContinuousBernoulli(logits), torch.tensor(0.3, dtype=dtype)
    (score,) = torch.autograd.grad(p.log_prob(x).sum(), logits, create_graph=True)
    (second,) = torch.autograd.grad(score.sum(), logits)
    (slope,) = torch.autograd.grad(ContinuousBernoulli(logits).mean.sum(), logits)
    torch.testing.assert_close(p.mean.double(), exact[:, 0], rtol=4 * eps, atol=0)
    torch.testing.assert_close(score.double(), x.double() - exact[:, 0], rtol=0, atol=4 * eps)
    moderate = exact[:, 1] > 1e-30  # further out a variance may underflow in float32
    for found in (p.variance, -second, slope):
        torch.testing.assert_close(
            found.double()[moderate], exact[moderate, 1], rtol=300 * eps, atol=0
        )


@pytest.mark.parametrize("logit", [-500.0, -3.0, -0.02, 0.0, 0.009, 20.0])
def test_draws_of_the_continuous_bernoulli_have_its_distribution_and_slope(logit):
    logits = torch.full((4000,), logit, requires_grad=True)
    x = ContinuousBernoulli(logits).rsample()
    # (exp(l x) - 1) / (exp(l) - 1), from the end at which it is small
    t, size = x.detach().numpy(), abs(logit)
    t = 1 - t if logit > 0 else t
    uniform = np.expm1(-size * t) / np.expm1(-size) if logit else t
    assert stats.kstest(uniform, "uniform").pvalue > 1e-3
    # the mean of dx / dl over draws is the derivative of the mean, which is the variance
    (slopes,) = torch.autograd.grad(x.sum(), logits)
    error = slopes.std().item() / 4000**0.5
    assert slopes.mean().item() == pytest.approx(mean_and_variance(logit)[1], abs=5 * error)


def test_a_logistic_function_is_the_mixture_of_normals():
    y = np.linspace(-100, 100, 200_001)
    found = sum(weight * ndtr(slope * y) for weight, slope in PROBIT_MIXTURE)
    assert np.abs(found - expit(y)).max() < 2.3e-9
    assert sum(weight for weight, _ in PROBIT_MIXTURE) == pytest.approx(1, abs=1e-15)


def test_the_mean_of_a_logit_normal_is_right_in_float32_and_has_a_gradient():
    loc = torch.tensor(EXTREMES).float().repeat_interleave(4).requires_grad_()
    scale = torch.tensor([1e-3, 1.0, 30.0, 1e3]).float().repeat(6).requires_grad_()
    mean = LogitNormal(loc, scale).mean
    grads = torch.autograd.grad(mean.sum(), (loc, scale))
    with mp.workdps(20):
        for i, (m, s) in enumerate(zip(loc.tolist(), scale.tolist(), strict=True)):
            # E sigmoid(m + s t) = E Phi((m - L) / s) of a logistic L; at 1e-3 to first order
            wanted = (
                mp.quad(
                    lambda y, m=m, s=s: mp.ncdf((m - y) / s) / (4 * mp.cosh(y / 2) ** 2),
                    [-60, -20, -5, 0, 5, 20, 60],
                )
                if s > 0.1
                else expit(m)
            )
            assert mean[i].item() == pytest.approx(float(wanted), abs=1e-6)
    for grad in grads:
        assert grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_furthest_parameters_leave_values_and_gradients_finite(name, dtype):
    likelihood = LIKELIHOODS[name]((1, 1, 8)).to(dtype)
    torch.manual_seed(0)
    chosen = torch.randint(len(EXTREMES), (200, likelihood.parameters_per_pixel, 1, 1, 8))
    parameters = torch.tensor(EXTREMES, dtype=dtype)[chosen].requires_grad_()
    p = likelihood.distribution(parameters)
    x = torch.tensor([2**-9, 1 / 255, 0.25, 1 - 2**-9]).repeat(2).to(dtype)
    x = x.round() if name == "bernoulli" else x
    x = (x * 255).round() / 255 if name.startswith("discretized") else x
    log_p = p.log_prob(x.reshape(p.event_shape))
    for value in (log_p, p.mean):
        assert value.isfinite().all()
        assert torch.autograd.grad(value.sum(), parameters, retain_graph=True)[0].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_means_and_log_densities_have_the_parameters_dtype(dtype):
    torch.set_default_dtype(torch.float32)
    for name, family in LIKELIHOODS.items():
        likelihood = family((1, 2, 2)).to(dtype)
        p = likelihood.distribution(
            torch.randn(5, likelihood.parameters_per_pixel, 1, 2, 2, dtype=dtype)
        )
        x = p.expand((3, 5)).sample((2,))
        assert x.shape == (2, 3, 5, *p.event_shape), name
        for value in (x, p.mean, p.log_prob(x)):
            assert value.dtype == dtype, name


def summed_log_prob(likelihood, x):
    return lambda numbers: likelihood.distribution(numbers).log_prob(x).sum()


def test_densities_and_their_gradients_are_one_graph():
    for name, family in LIKELIHOODS.items():
        likelihood = family((1, 2, 2))
        x = torch.full((1, 2, 2), 51 / 255).reshape(4 if name == "low_rank" else (1, 2, 2))
        x = x.round() if name == "bernoulli" else x

        both = torch.func.grad_and_value(summed_log_prob(likelihood, x))
        drawn, other = (
            30 * torch.randn(3, likelihood.parameters_per_pixel, 1, 2, 2) for _ in range(2)
        )
        with pyro.validation_enabled(False):  # as in a training step
            graph = make_fx(both)(drawn)
            torch.testing.assert_close(graph(other), both(other))


@pytest.mark.parametrize("log_scale", [-1000.0, -50.0, 50.0, 1000.0])
@pytest.mark.parametrize("loc", [-1000.0, 0.25, 128 / 255, 128.5 / 255, 1000.0])
def test_levels_sum_to_one_at_scales_that_no_float_can_hold(log_scale, loc):
    shape = (1, 1, 1, 1)
    p = DiscretizedLogisticMixture(
        torch.zeros(shape), torch.full(shape, loc), torch.full(shape, log_scale), 255, 3
    )
    probabilities = p.log_prob((torch.arange(256.0) / 255).reshape(256, 1, 1, 1)).exp()
    assert probabilities.sum().item() == pytest.approx(1, abs=1e-12)
    assert (probabilities @ torch.arange(256.0) / 255).item() == pytest.approx(
        p.mean.item(), abs=1e-12
    )


@pytest.mark.parametrize(("a", "b"), [(1 / 255, 1 / 255), (0.02, 3.0), (0.5, 0.5), (800.0, 2.0)])
def test_draws_of_a_beta_have_its_distribution_up_to_the_outermost_numbers(a, b):
    p = StableBeta(torch.tensor(a).expand(4000), torch.tensor(b).expand(4000))
    x = p.rsample().numpy()
    truth = stats.beta(a, b)
    assert 0 < x.min() <= x.max() < 1
    for edge in (1e-300, 1e-30, 1e-3, 0.2, 0.499, 0.501, 0.8, 1 - 1e-12):
        share, wanted = (x < edge).mean(), truth.cdf(edge)
        assert share == pytest.approx(wanted, abs=5 * (wanted * (1 - wanted) / 4000) ** 0.5 + 1e-9)


def test_a_beta_keeps_its_digits_in_float32_at_large_concentrations():
    a, b, x = (torch.tensor(v).float() for v in (950.0, 1000.0, 0.49))
    wanted = stats.beta(950, 1000).logpdf(x.double().item())
    assert StableBeta(a, b).log_prob(x).item() == pytest.approx(wanted, rel=2e-7)


def test_a_logit_normal_keeps_its_digits_next_to_one_in_float32():
    x = torch.tensor([2**-149, 2**-126, 1e-12, 0.5, 1 - 2**-23, 1 - 2**-24]).float()
    found = LogitNormal(torch.tensor(2.0).float(), torch.tensor(5.0).float()).log_prob(x)
    exact = x.double().numpy()
    logit = np.log(exact) - np.log1p(-exact)
    wanted = stats.norm(2, 5).logpdf(logit) - np.log(exact) - np.log1p(-exact)
    np.testing.assert_allclose(found.double().numpy(), wanted, rtol=1e-6)


def test_a_low_rank_normal_keeps_its_digits_in_float32_where_its_diagonal_is_small():
    F, d = torch.randn(60, 3).float(), torch.full((60,), 1e-6).float()
    x = (torch.randn(20, 3).float() @ F.mT + d.sqrt() * torch.randn(20, 60).float()).float()
    S = F.double() @ F.mT.double() + d.double().diag()
    wanted = stats.multivariate_normal(np.zeros(60), S.numpy()).logpdf(x.double().numpy())
    found = LowRankNormal(torch.zeros(60).float(), F, d).log_prob(x)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-6)


def test_the_explorer_agrees_at_extreme_parameters(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    families = (
        "bernoulli",
        "continuous_bernoulli",
        "logit_normal",
        "beta",
        "discretized_logistic",
    )
    weights, slopes = zip(*PROBIT_MIXTURE, strict=True)
    constants = {"weights": weights, "slopes": slopes}
    pairs = [(a, b) for a in EXTREMES for b in EXTREMES]
    found = in_node(
        "result = Object.fromEntries(given.families.map((name) => [name, given.pairs.map((out) =>"
        "  [LIKELIHOODS[name].mean(out, 1, given)[0],"
        "   ...given.x.map((x) => LIKELIHOODS[name].logProb(out, [x], given))])]));",
        {
            "families": families,
            "pairs": pairs,
            "x": [51 / 255, 254 / 255],
            "constants": constants,
            "levels": 255,
        },
    )
    for name in families:
        likelihood = LIKELIHOODS[name]((1, 1, 1))
        numbers = torch.tensor(pairs)[:, : likelihood.parameters_per_pixel].reshape(
            -1, likelihood.parameters_per_pixel, 1, 1, 1
        )
        p = likelihood.distribution(numbers)
        with torch.no_grad():
            p = (
                p
                if name != "bernoulli"
                else torch.distributions.Independent(
                    torch.distributions.Bernoulli(logits=numbers[:, 0], validate_args=False), 3
                )
            )  # the formula of a Bernoulli, on grey pixels
            x = [torch.full((1, 1, 1), v) for v in (51 / 255, 254 / 255)]
            wanted = torch.stack([p.mean.flatten(), *map(p.log_prob, x)], -1)
        np.testing.assert_allclose(np.array(found[name]), wanted, rtol=1e-9, atol=1e-9)
        assert json.dumps(found[name]).count("null") == 0, name
