"""Simulation-based calibration: is q(z | x) right on data drawn from the model?

If x is drawn together with z, then z is a draw from p(z | x), and its rank among K draws from the
right q is uniform. If q is too narrow, ranks accumulate at both ends; if q is too wide, in the
middle.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
import pyro
import torch
from pyro import poutine
from pyro.poutine.util import prune_subsample_sites
from scipy import stats
from torch import Tensor, nn

from experiments.evaluation.shared_draws import Drawn, draws_in
from experiments.inference.checks.masks import mask_of
from experiments.inference.checks.pair_check import check_once
from experiments.inference.checks.particles import spread
from experiments.inference.checks.rows import check_local
from experiments.inference.checks.simulations import check_simulates
from experiments.inference.frozen import evaluated
from ppl_models.random_numbers import forked_rng
from ppl_models.sites import describe, simulate


class Calibration(NamedTuple):
    """Ranks ``[simulations, M]`` of every latent number, from 0 to ``draws``.

    A latent that a mask leaves out has rank -1 and is not counted. ``outside`` is the largest
    distance of the ranks' ECDF from its band, per number; 0 if it stays inside. ``ends`` is the
    share of ranks that both outer tenths have in excess: above 0 q is too narrow, below 0 too
    wide. It is 0 if one end has too many and the other too few, as when q is biased. ``names``
    gives the position of each number, after the name of its latent if there are several.
    """

    ranks: Tensor
    draws: int
    outside: Tensor
    ends: Tensor
    names: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether all ranks stay inside their bands."""
        return bool((self.outside == 0).all())


@evaluated
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
        model: p.
        guide: q, not a per-datum guide.
        simulations: number of data drawn from the model.
        draws: K, draws of q per datum.
        level: joint level of the bands of all latents (Bonferroni).
        rows: number of data at a time.

    Raises:
        ValueError: If the model has a global latent, no latent left to rank, or a factor; if masks
            leave out a latent in every simulation; if the pair does not pass its checks.

    References:
        Talts, Betancourt, Simpson, Vehtari & Gelman (2018); Säilynoja, Bürkner & Vehtari (2022),
        the band of an ECDF.
    """
    check_local(model, "calibration")
    latents = describe(model).latents
    if not latents:
        raise ValueError("calibration ranks latents, and all of this model's are summed out.")
    with pyro.validation_enabled(False), forked_rng():
        checked = check_once(model, guide, simulate(model, 2)[1], particles=draws)
    check_simulates(model, "calibration")
    found = []
    with pyro.validation_enabled(False):
        for start in range(0, simulations, rows):
            truth, batch = simulate(model, min(rows, simulations - start), start)
            (apart,), several = spread(model, [guide], batch, draws, checked.depth)
            trace = prune_subsample_sites(poutine.trace(apart).get_trace(several))
            drawn = draws_in(trace, draws)
            parts = [_ranks(truth.nodes[name], drawn[name]) for name in latents]
            found.append(torch.cat(parts, 1))
    ranks = torch.cat(found).cpu()
    ecdfs = [_against_band(column[column >= 0], draws, level, len(ranks.T)) for column in ranks.T]
    outside, ends = torch.tensor(ecdfs, dtype=torch.float64).T
    names = tuple(
        str(k + 1) if len(latents) == 1 else f"{name} {k + 1}"
        for name, part in zip(latents, parts, strict=True)
        for k in range(part.shape[1])
    )
    return Calibration(ranks, draws, outside, ends, names)


def _ranks(truth: Any, drawn: Drawn) -> Tensor:
    """The rank of each datum's true latents among the draws, ``[B, M]``; -1 under a mask.

    Among equal draws, as of discrete latents, the rank is drawn.

    References:
        Säilynoja, Bürkner & Vehtari (2022), ties.
    """
    z = truth["value"]
    assert drawn.rows is not None
    below, equal = (drawn.z < z).sum(0), (drawn.z == z).sum(0)
    if equal.any():
        below += (torch.rand(equal.shape, device=equal.device) * (equal + 1)).long()
    below = below.movedim(drawn.rows, 0)
    if (mask := mask_of(truth)) is not True:
        below = below.masked_fill(~mask.expand_as(z).movedim(drawn.rows, 0), -1)
    return below.reshape(len(below), -1)


def _against_band(ranks: Tensor, draws: int, level: float, dims: int) -> tuple[float, float]:
    """By how much the ECDF of one latent's ranks leaves its band, and what both ends share."""
    if not len(ranks):
        raise ValueError("calibration finds a latent that is masked in every simulation.")
    lower, upper = band(len(ranks), draws, 1 - (1 - level) / dims)
    counts, tenth = torch.bincount(ranks, minlength=draws + 1), (draws + 1) // 10
    ecdf = counts.cumsum(0)[:-1].double() / len(ranks)
    above, below = ecdf - torch.from_numpy(upper), torch.from_numpy(lower) - ecdf
    outside = torch.maximum(above, below).clamp(min=0).amax()
    even = tenth / (draws + 1)
    both = counts[:tenth], counts.flip(0)[:tenth]
    few, many = sorted(end.sum().item() / len(ranks) - even for end in both)
    return outside.item(), 2 * (max(few, 0.0) + min(many, 0.0))


@functools.lru_cache
def band(simulations: int, draws: int, level: float) -> tuple[Any, Any]:
    """Simultaneous band for the ECDF of uniform ranks, ``[draws]`` each.

    Pointwise binomial intervals, widened until they hold together with probability ``level``: the
    level of a point is found by simulation. The paths cannot tell how often a band is left that
    hardly ever is; there, this probability is nearly proportional to that of a single point.
    """
    rng = np.random.default_rng(0)
    points = np.arange(1, draws + 1) / (draws + 1)
    paths = rng.multinomial(simulations, np.full(draws + 1, 1 / (draws + 1)), 4000)
    reached = paths.cumsum(1)[:, :-1]
    tail = np.minimum(
        stats.binom.cdf(reached, simulations, points),
        stats.binom.sf(reached - 1, simulations, points),
    ).min(1)
    leaves = max(1 - level, 0.005)
    pointwise = np.quantile(tail, leaves) * (1 - level) / leaves
    lower = stats.binom.ppf(pointwise, simulations, points) / simulations
    upper = stats.binom.isf(pointwise, simulations, points) / simulations
    return lower, upper
