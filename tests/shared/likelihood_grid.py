"""How far the likelihoods are from the mathematics, over the whole range of a decoder's numbers.

Prints the table of docs/results.md: python -m tests.shared.likelihood_grid

Log-densities and gradients are compared with the textbook's formulas in mpmath, 40 digits.
Integrals are Gauss-Legendre quadrature of our densities in float64, against scipy's distribution
functions where the numbers near 0 and 1 do not hold all of the mass.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import mpmath as mp
import numpy as np
import torch
from scipy.special import betainc, expit, ndtr
from torch import Tensor

from ppl_models.likelihoods import LIKELIHOODS, MIN_SCALE
from tests.shared.textbook import TEXTBOOK

PARAMETERS = (-1000.0, -100.0, -16.5, -1.0, -1e-4, 0.0, 0.3, 10.0, 40.0, 1000.0)
SCALES = (1e-3, 0.03, 1.0, 30.0, 1e3)
UPPER = 14.0  # the logit up to which 1 - x has ten digits in float64
GAUSSIANS = ("gaussian", "gaussian_per_pixel", "gaussian_decoder")


def raw(scale: float) -> float:
    """The decoder's number for a scale, as near as MIN_SCALE + softplus comes to it."""
    above = scale - MIN_SCALE
    return -1000.0 if above <= 0 else above + np.log(-np.expm1(-above))


def grid(name: str) -> list[tuple[float, ...]]:
    """Cases of a family: the numbers of one pixel (of two, for low_rank)."""
    rng = np.random.default_rng(0)
    if name in ("bernoulli", "continuous_bernoulli"):
        return [(p,) for p in PARAMETERS]
    if name == "beta":
        return list(itertools.product(PARAMETERS, PARAMETERS[::2]))
    if name in ("gaussian", "gaussian_per_pixel", "discretized_logistic"):
        return list(itertools.product((0.5, *PARAMETERS), np.log(SCALES).tolist()))
    if name in ("gaussian_decoder", "logit_normal"):
        scales = (*map(raw, SCALES), -1000.0, 1000.0)
        return list(itertools.product(PARAMETERS, scales))
    if name == "low_rank":
        size = 10 ** rng.uniform(-3, 3, (12, 12))
        return [tuple(row) for row in (rng.choice([-1, 1], (12, 12)) * size).tolist()]
    logits, loc = rng.choice(PARAMETERS, (2, 6, 10))
    loc[::2] = rng.uniform(size=(3, 10))
    log_scale = np.log(10) * rng.uniform(-3, 3, (6, 10))
    return [tuple(row) for row in np.concatenate([loc, log_scale, logits], 1).tolist()]


def each(name: str) -> Iterator[tuple[Any, Tensor, tuple[float, ...]]]:
    """Every case's p(x | z) with batch shape ``[]``, and its numbers, ready for gradients."""
    likelihood = LIKELIHOODS[name]((1, 1, 2 if name == "low_rank" else 1))
    shape = (likelihood.parameters_per_pixel, *likelihood.data_shape)
    sigma = getattr(likelihood, "log_sigma", None)
    if sigma is not None:
        del likelihood.log_sigma  # from a parameter of its own to one of the case's numbers
    for case in grid(name):
        numbers = torch.tensor(case, requires_grad=True)
        if sigma is not None:
            likelihood.log_sigma = numbers[1].reshape(sigma.shape)
        yield likelihood.distribution(numbers[: int(np.prod(shape))].reshape(shape)), numbers, case


def observations(name: str) -> list[Any]:
    """Where log-densities are compared, the ends of the support among them."""
    if name == "low_rank":
        return [(0.0, 1.0), (0.3, 0.3), (900.0, -1000.0)]
    if name == "bernoulli":
        return [0.0, 1.0]
    if name.startswith("discretized"):
        return [k / 255 for k in (0, 1, 128, 254, 255)]
    if name in ("logit_normal", "beta"):
        return [1e-300, 1e-6, 0.3, 1 - 2**-20, 1 - 2**-52]
    return [0.0, 1e-6, 0.3, 1.0]


def exact_values(formula: Callable[..., Any], x: Any, case: tuple[float, ...]) -> list[Any]:
    """log p(x) of a textbook's formula and its derivatives by all of the case's numbers."""
    at = [mp.mpf(v) for v in x] if isinstance(x, tuple) else mp.mpf(x)
    exact = [mp.mpf(number) for number in case]

    def along(i: int) -> Any:
        return mp.diff(lambda t: formula(at, *exact[:i], t, *exact[i + 1 :]), exact[i])

    return [formula(at, *exact), *(along(i) for i in range(len(case)))]


def pointwise(name: str) -> tuple[float, float]:
    """The worst deviation of log p and of its gradient, relative where they exceed one."""
    worst = [0.0, 0.0]
    for p, numbers, case in each(name):
        for x in observations(name):
            value = torch.tensor(x).reshape(p.event_shape)
            log_p = p.log_prob(value)
            (gradient,) = torch.autograd.grad(log_p, numbers, retain_graph=True)
            wanted = exact_values(TEXTBOOK[name], x, case)
            found = [log_p.item(), *gradient.tolist()]
            errors = [
                float(abs(f - w) / max(1, abs(w))) for f, w in zip(found, wanted, strict=True)
            ]
            assert np.isfinite(errors).all(), (name, case, x)
            worst = [max(worst[0], errors[0]), max(worst[1], *errors[1:])]
    return worst[0], worst[1]


# Integrals and means.


def panels(edges: Any, number: int = 16) -> tuple[Tensor, Tensor]:
    """Nodes and weights of Gauss-Legendre quadrature between all neighbouring edges."""
    t, w = np.polynomial.legendre.leggauss(number)
    edges = np.asarray(edges)
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    return torch.from_numpy((middle[:, None] + half[:, None] * t).ravel()), torch.from_numpy(
        (half[:, None] * w).ravel()
    )


def of_gaussian(p: Any, case: tuple[float, ...]) -> tuple[float, float]:
    t, w = panels(np.linspace(-9, 9, 19))
    loc, scale = case[0], p.variance.sqrt().item()
    x = (loc + scale * t).reshape(-1, 1, 1, 1)
    mass = w * scale * p.log_prob(x).exp()
    # the mean, as an offset in standard deviations
    return mass.sum().item() - 1, ((mass * t).sum().item() * scale + loc - p.mean.item())


def of_low_rank(p: Any, case: tuple[float, ...]) -> tuple[float, float]:
    t, w = panels(np.linspace(-9, 9, 13), 12)
    values, vectors = torch.linalg.eigh(p.covariance_matrix)
    A = vectors * values.clamp(min=0).sqrt()
    x = torch.cartesian_prod(t, t) @ A.mT + p.mean
    mass = torch.outer(w, w).flatten() * p.log_prob(x).exp() * values.prod().sqrt()
    wanted = torch.tensor(case[:2])
    return mass.sum().item() - 1, (p.mean - wanted).abs().max().item()


def of_levels(p: Any, case: tuple[float, ...]) -> tuple[float, float]:
    levels = torch.arange(2.0) if len(case) == 1 else torch.arange(256.0) / 255
    mass = p.log_prob(levels.reshape(-1, 1, 1, 1)).exp()
    return mass.sum().item() - 1, (mass @ levels - p.mean.flatten()).item()


def of_continuous_bernoulli(p: Any, case: tuple[float, ...]) -> tuple[float, float]:
    t, w = panels([0.0, *(2.0 ** np.arange(-14, 1))])
    x = 1 - t if case[0] > 0 else t
    mass = w * p.log_prob(x.reshape(-1, 1, 1, 1)).exp()
    return mass.sum().item() - 1, (mass @ x - p.mean.flatten()).item()


def between(p: Any, logits: Tensor, weights: Tensor) -> float:
    """The mass at numbers whose logits lie where the nodes do."""
    log_x = -torch.nn.functional.softplus(-logits)
    log_p = p.log_prob(torch.sigmoid(logits).reshape(-1, 1, 1, 1))
    return (weights * (log_p + 2 * log_x - logits).exp()).sum().item()


def of_logit_normal(p: Any, case: tuple[float, ...]) -> tuple[float, float]:
    m, s = case[0], MIN_SCALE + float(np.logaddexp(0, case[1]))
    low, high = max(m - 9 * s, -700.0), min(m + 9 * s, UPPER)
    mass = between(p, *panels(np.linspace(low, high, 200))) if low < high else 0.0
    wanted = ndtr((high - m) / s) - ndtr((low - m) / s) if low < high else 0.0
    if s < 1:  # the mean: of a logistic function under a normal, or of a normal under a logistic
        t, w = panels(np.linspace(-9, 9, 37))
        mean = (w * torch.exp(-t.square() / 2)) @ torch.sigmoid(m + s * t) / (2 * np.pi) ** 0.5
    else:
        t, w = panels(np.linspace(-45, 45, 181))
        y = t.numpy()
        mean = w @ torch.from_numpy(ndtr((m - y) / s) * expit(y) * expit(-y))
    return mass - wanted, mean.item() - p.mean.item()


def of_beta(p: Any, case: tuple[float, ...]) -> tuple[float, float]:
    a, b = (MIN_SCALE + float(np.logaddexp(0, v)) for v in case)
    mass = between(p, *panels([*np.linspace(-700, -10, 1400), *np.linspace(-9.5, UPPER, 240)]))
    wanted = betainc(a, b, expit(UPPER)) - betainc(a, b, expit(-700.0))
    return mass - wanted, a / (a + b) - p.mean.item()


INTEGRALS: dict[str, Callable[..., tuple[float, float]]] = {
    **dict.fromkeys(GAUSSIANS, of_gaussian),
    "low_rank": of_low_rank,
    "continuous_bernoulli": of_continuous_bernoulli,
    "logit_normal": of_logit_normal,
    "beta": of_beta,
}


@torch.no_grad()
def integrals(name: str) -> tuple[float, float]:
    """The worst deviation of the integral or sum from one, and of the mean."""
    found = [INTEGRALS.get(name, of_levels)(p, case) for p, _, case in each(name)]
    integral, mean = np.abs(found).max(0)
    return float(integral), float(mean)


def deviations(name: str) -> dict[str, float]:
    """Worst deviations of a family over its grid."""
    with mp.workdps(40):
        log_p, gradient = pointwise(name)
    integral, mean = integrals(name)
    return {"integral": integral, "mean": mean, "gradient": gradient, "log p": log_p}


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    print("| likelihood | integral or sum | mean | gradient | log p |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name in LIKELIHOODS:
        cells = " | ".join(f"{value:.0e}" for value in deviations(name).values())
        print(f"| `{name}` | {cells} |", flush=True)
