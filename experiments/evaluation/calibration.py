"""Simulation-based calibration: is q(z | x) right on data drawn from the model?

If x is drawn together with z, then z is a draw from p(z | x), and its rank among K draws from the
right q is uniform. If q is too narrow, ranks accumulate at both ends; if q is too wide, in the
middle.
"""

from typing import Any, NamedTuple

import numpy as np
import pyro
import torch
from pyro import poutine
from scipy import stats
from torch import Tensor, nn

from experiments.inference.checks.local_latents import check_local
from experiments.inference.checks.pair_check import check_once
from experiments.inference.pair import cuda_devices
from ppl_models.sites import describe, simulate

__all__ = ["Calibration", "band", "calibrate"]


class Calibration(NamedTuple):
    """Ranks ``[simulations, M]`` of every latent, from 0 to ``draws``.

    ``outside`` is the distance of the ranks' ECDF from its band, per latent, 0 inside. ``ends`` is
    the share of ranks in the outer tenths minus a fifth: above 0, q is too narrow, below 0 too
    wide.
    """

    ranks: Tensor
    draws: int
    outside: Tensor
    ends: Tensor

    @property
    def passed(self) -> bool:
        return bool((self.outside == 0).all())


@torch.no_grad()
def calibrate(
    model: nn.Module,
    guide: nn.Module,
    simulations: int = 10_000,
    draws: int = 99,
    level: float = 0.95,
    rows: int = 500,
) -> Calibration:
    """Rank the latents of simulated data among draws from q.

    Args:
        model: p, in evaluation mode; with one vector latent.
        guide: q, not a per-datum guide.
        simulations: number of data drawn from the model.
        draws: K, draws of q per datum.
        level: joint level of the bands of all latents (Bonferroni).
        rows: number of data at a time.

    Raises:
        ValueError: If the model has several latents, or a global one.

    References:
        Talts, Betancourt, Simpson, Vehtari & Gelman (2018); Säilynoja, Bürkner & Vehtari (2022),
        the band of an ECDF.
    """
    check_local(model, "calibration")
    latents = describe(model).latents
    if len(latents) != 1:
        raise ValueError(f"calibration is for one vector latent; the model has {list(latents)}.")
    (name,) = latents
    ranks = []
    with pyro.validation_enabled(False), torch.random.fork_rng(cuda_devices(*model.parameters())):
        depth = check_once(model, guide, simulate(model, 2)[1]).depth
    several = pyro.plate("particles", draws, dim=-1 - depth)
    with pyro.validation_enabled(False):
        for start in range(0, simulations, rows):
            truth, batch = simulate(model, min(rows, simulations - start), start)
            trace = poutine.trace(several(guide)).get_trace(batch)
            below = (trace.nodes[name]["value"] < truth.nodes[name]["value"]).sum(0)
            ranks.append(below.reshape(len(below), -1))
    found = torch.cat(ranks).cpu()
    dims = found.shape[1]
    lower, upper = band(simulations, draws, 1 - (1 - level) / dims)
    counts = torch.stack([torch.bincount(column, minlength=draws + 1) for column in found.T])
    ecdf = counts.cumsum(1)[:, :-1].double() / simulations
    above, below = ecdf - torch.from_numpy(upper), torch.from_numpy(lower) - ecdf
    outside = torch.maximum(above, below).clamp(min=0).amax(1)
    tenth = (draws + 1) // 10
    ends = (counts[:, :tenth].sum(1) + counts[:, -tenth:].sum(1)).double() / simulations
    return Calibration(found, draws, outside, ends - 2 * tenth / (draws + 1))


def band(simulations: int, draws: int, level: float) -> tuple[Any, Any]:
    """Simultaneous band for the ECDF of uniform ranks, ``[draws]`` each.

    Pointwise binomial intervals, widened until they hold together with probability ``level``: the
    level of a point is found by simulation.
    """
    rng = np.random.default_rng(0)
    points = np.arange(1, draws + 1) / (draws + 1)
    paths = rng.multinomial(simulations, np.full(draws + 1, 1 / (draws + 1)), 4000)
    reached = paths.cumsum(1)[:, :-1]
    tail = np.minimum(
        stats.binom.cdf(reached, simulations, points),
        stats.binom.sf(reached - 1, simulations, points),
    ).min(1)
    pointwise = np.quantile(tail, 1 - level)
    lower = stats.binom.ppf(pointwise, simulations, points) / simulations
    upper = stats.binom.isf(pointwise, simulations, points) / simulations
    return lower, upper
