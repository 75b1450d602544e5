"""An adapter for the two interfaces of ArviZ: 0.23 (Python 3.11) and 1.x."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def _quietly() -> Any:
    """Suppress 0.23's notice about the next version and its warnings about large k-hats."""
    return warnings.catch_warnings(action="ignore")


def pareto_k(log_weights: np.ndarray) -> np.ndarray:
    """k-hat of log weights ``[N, K]``, by Pareto-smoothed importance sampling, ``[N]``."""
    try:
        from arviz_stats.base import array_stats
    except ImportError:
        with _quietly():
            import arviz

            found = arviz.psislw(log_weights, reff=1.0)
    else:  # 1.x takes the negated weights, as leave-one-out cross-validation needs them
        found = array_stats.psislw(-log_weights, r_eff=1.0)
    return np.atleast_1d(np.asarray(found[1]))


def _is_old(arviz: Any) -> bool:
    return int(arviz.__version__.split(".")[0]) < 1


def inference_data(groups: Mapping[str, Mapping[str, np.ndarray]]) -> Any:
    """ArviZ's container of named groups of arrays (posterior, log_likelihood, ...).

    Args:
        groups: group -> variable -> array ``[chains, draws, ...]``; ``observed_data`` without
            chains and draws.
    """
    with _quietly():
        import arviz

        make: Any = arviz.from_dict
        plain = {name: dict(group) for name, group in groups.items()}
        return make(**plain) if _is_old(arviz) else make(plain)


def rhat(values: np.ndarray) -> np.ndarray:
    """Rank-normalised split R-hat of every entry, ``[...]``, of ``[chains, draws, ...]``.

    References:
        Vehtari, Gelman, Simpson, Carpenter & Bürkner (2021).
    """
    with _quietly():
        import arviz

        found = arviz.rhat(inference_data({"posterior": {"v": values}}))
        return np.asarray((found if "v" in found else found["posterior"])["v"])


def compare_loo(runs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Expected log predictive density of left-out data, the best first [nats].

    ``unreliable`` is the share of data whose weights have k-hat above 0.7. Draws from a guide are
    treated as draws from the posterior.

    Args:
        runs: name -> inference data with a ``log_likelihood``.

    References:
        Vehtari, Gelman & Gabry (2017), PSIS-LOO.
    """
    with _quietly():
        import arviz

        compare: Any = arviz.compare
        loo: Any = arviz.loo
        table = compare(dict(runs), **({} if _is_old(arviz) else {"round_to": "none"}))
        indices = {name: loo(data, pointwise=True).pareto_k for name, data in runs.items()}
    table = table.rename(columns={"elpd_loo": "elpd", "p_loo": "p"})
    best = float(table["elpd"].iloc[0])
    return [
        {
            "name": str(name),
            "elpd": float(row["elpd"]),
            "se": float(row["se"]),
            "effective parameters": float(row["p"]),
            "below the best": best - float(row["elpd"]),
            "± below": float(row["dse"]),
            "unreliable": float((np.asarray(indices[str(name)]) > 0.7).mean()),
        }
        for name, row in table.iterrows()
    ]


def save_netcdf(data: Any, path: Path) -> None:
    with _quietly():
        data.to_netcdf(str(path))
