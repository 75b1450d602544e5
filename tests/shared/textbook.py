"""The textbook's log-densities of every likelihood, in mpmath, from a decoder's numbers [nats]."""

from collections.abc import Callable
from typing import Any

import mpmath as mp


def softplus(x: Any) -> Any:
    return mp.log1p(mp.exp(x)) if x < 0 else x + mp.log1p(mp.exp(-x))


def scale_of(x: Any) -> Any:
    return mp.mpf(1) / 255 + softplus(x)


def normal(x: Any, loc: Any, scale: Any) -> Any:
    return -(((x - loc) / scale) ** 2) / 2 - mp.log(scale) - mp.log(2 * mp.pi) / 2


def logit_normal(x: Any, loc: Any, scale: Any) -> Any:
    return normal(mp.log(x) - mp.log(1 - x), loc, scale_of(scale)) - mp.log(x) - mp.log(1 - x)


def beta(x: Any, a: Any, b: Any) -> Any:
    a, b = scale_of(a), scale_of(b)
    constant = mp.loggamma(a + b) - mp.loggamma(a) - mp.loggamma(b)
    return (a - 1) * mp.log(x) + (b - 1) * mp.log(1 - x) + constant


def continuous_bernoulli(x: Any, logit: Any) -> Any:
    return logit * x + (mp.log(logit / mp.expm1(logit)) if logit else 0)


def logistic_bin(x: Any, loc: Any, log_scale: Any) -> Any:
    """log P of a level k / 255; from the side on which both terms are small."""
    k, scale = round(x * 255), mp.exp(log_scale)
    lower, upper = ((mp.mpf(k) + half) / 255 for half in (-mp.mpf(1) / 2, mp.mpf(1) / 2))

    def below(t: Any) -> Any:
        return 1 / (1 + mp.exp(-(t - loc) / scale))

    def above(t: Any) -> Any:
        return 1 / (1 + mp.exp((t - loc) / scale))

    if k == 0:
        return mp.log(below(upper))
    if k == 255:
        return mp.log(above(lower))
    return mp.log(above(lower) - above(upper) if lower > loc else below(upper) - below(lower))


def mixture(x: Any, *numbers: Any) -> Any:
    loc, log_scale, logits = numbers[:10], numbers[10:20], numbers[20:]
    joint = [w + logistic_bin(x, m, s) for w, m, s in zip(logits, loc, log_scale, strict=True)]
    return log_sum(joint) - log_sum(logits)


def log_sum(terms: Any) -> Any:
    most = max(terms)
    return most + mp.log(mp.fsum(mp.exp(t - most) for t in terms))


def low_rank(x: Any, *numbers: Any) -> Any:
    """Of two pixels, ``x`` both of them; F F⊤ + diag(s^2) written out."""
    loc, factor, s = numbers[:2], numbers[2:10], [scale_of(v) for v in numbers[10:]]
    a, b = ([factor[2 * j + pixel] / 10 for j in range(4)] for pixel in (0, 1))
    A, C = mp.fdot(a, a) + s[0] ** 2, mp.fdot(b, b) + s[1] ** 2
    B = mp.fdot(a, b)
    det, (u, v) = A * C - B * B, (x[0] - loc[0], x[1] - loc[1])
    return -((C * u * u - 2 * B * u * v + A * v * v) / det + mp.log(det)) / 2 - mp.log(2 * mp.pi)


TEXTBOOK: dict[str, Callable[..., Any]] = {
    "gaussian": lambda x, loc, s: normal(x, loc, mp.exp(s)),
    "gaussian_per_pixel": lambda x, loc, s: normal(x, loc, mp.mpf(1) / 255 + mp.exp(s)),
    "gaussian_decoder": lambda x, loc, s: normal(x, loc, scale_of(s)),
    "low_rank": low_rank,
    "bernoulli": lambda x, logit: -softplus(-logit if x else logit),
    "continuous_bernoulli": continuous_bernoulli,
    "logit_normal": logit_normal,
    "beta": beta,
    "discretized_logistic": logistic_bin,
    "discretized_logistic_mixture": mixture,
}
