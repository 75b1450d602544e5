"""ArviZ, in the two forms it comes in: 0.23 (Python 3.11) and 1.x."""

import warnings

import numpy as np

__all__ = ["pareto_k"]


def pareto_k(log_weights: np.ndarray) -> np.ndarray:
    """The tail index of importance weights, by Pareto-smoothed importance sampling.

    Args:
        log_weights: S draws of N data, ``[N, S]`` [nats].

    Returns:
        k-hat, ``[N]``: above 0.7 the weights' mean is not to be believed.

    References:
        Vehtari, Simpson, Gelman, Yao & Gabry (2024), PSIS.
    """
    try:
        from arviz_stats.base import array_stats
    except ImportError:
        with warnings.catch_warnings():  # a daily notice about the coming version
            warnings.simplefilter("ignore")
            import arviz

            return np.atleast_1d(np.asarray(arviz.psislw(log_weights, reff=1.0)[1]))
    # 1.x takes the negated weights, as leave-one-out cross-validation needs them
    return np.atleast_1d(np.asarray(array_stats.psislw(-log_weights, r_eff=1.0)[1]))
