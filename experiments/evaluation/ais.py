"""Annealed importance sampling of log p(x) from the guide or the prior, with HMC moves."""

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from operator import itemgetter
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from experiments.errors import said_by
from experiments.evaluation.annealing import Annealing, Latents
from experiments.inference.checks.pair_check import check_once, check_weights
from experiments.inference.checks.rows import check_local, refuse_points
from experiments.inference.checks.simulations import check_simulates
from experiments.inference.frozen import frozen
from guides import GUIDES, Guide
from ppl_models.batch import Batch
from ppl_models.random_numbers import seeded
from ppl_models.sites import check_plates, describe, evaluating, simulate

TARGET = 0.65
"""Target acceptance rate of the step sizes (Neal 2011)."""


class Chains(NamedTuple):
    """log weights of the chains ``[S, B]`` [nats], and the share of accepted moves ``[B]``."""

    log_weights: Tensor
    acceptance: Tensor

    @property
    def bound(self) -> Tensor:
        """The log of the mean weight, at most log p(x) on average, ``[B]`` [nats]."""
        return self.log_weights.logsumexp(0) - math.log(len(self.log_weights))


def _run(
    path: Annealing, chains: int, sizes: list[Tensor] | None, exact: Latents | None = None
) -> tuple[Chains, list[Tensor]]:
    """Run all chains along the path; backwards if an exact draw from p(z | x) is given.

    Without ``sizes``, the step sizes are tuned during the run, and its weights are not used.
    """
    z = path.first() if exact is None else path.inverted(exact)
    rows = len(path.batch.index) // chains
    size = torch.full_like(path.ratio(z)[:rows], 0.1)
    used, log_w, shares = [], torch.zeros_like(path.ratio(z)), []
    pairs = list(enumerate(itertools.pairwise(path.betas)))
    for t, (before, beta) in pairs if exact is None else reversed(pairs):
        if exact is None:
            log_w += (beta - before) * path.ratio(z)
        if sizes is not None:
            size = sizes[t]
        z, accepted = path.move(z, beta, size.repeat(chains))
        if exact is not None:
            log_w += (beta - before) * path.ratio(z)
        used.append(size)
        share = accepted.double().reshape(chains, rows).mean(0)
        shares.append(share)
        if sizes is None:
            size = size * torch.where(share > TARGET, 1.1, 1 / 1.1).to(size)
    return Chains(log_w.reshape(chains, rows), torch.stack(shares).mean(0)), used


def annealed_bound(
    model: nn.Module,
    guide: Guide,
    batch: Batch,
    chains: int = 16,
    steps: int = 200,
    leapfrog: int = 8,
    start: Literal["guide", "prior"] = "guide",
) -> Chains:
    """A lower bound on log p(x) of every row, by annealed importance sampling.

    A first run tunes one step size per row and temperature; a second one gives the weights.

    Args:
        model: p; in evaluation mode inside.
        guide: q, whose density must be known everywhere (with NVAE's flows, start at the prior).
        batch: fixed pixels.
        chains: S, chains per row.
        steps: T, number of temperatures.
        leapfrog: leapfrog steps per proposal.
        start: the initial distribution of the path.

    Returns:
        The chains of the second run; ``bound`` is the lower bound, ``[B]`` [nats].

    Raises:
        ValueError: If ``steps`` or ``leapfrog`` is below 1; if a latent is global or has no
            unconstrained coordinates; if q gives points, has a factor or has latents that are not
            the model's, or its density is known only at its own draws; if a density is scaled by
            more than the plates.

    References:
        Neal (2001), annealed importance sampling; Wu, Burda, Salakhutdinov & Grosse (2017).
    """
    with _path(model, guide, batch, chains, steps, leapfrog, start) as path:
        _, sizes = _run(path, chains, None)
        return _run(path, chains, sizes)[0]


def check_anneals(model: nn.Module, guide: Guide, batch: Batch, start: Any) -> None:
    """Refuse a pair that cannot be annealed, as ``annealed_bound`` does, by a single step."""
    with seeded():
        annealed_bound(model, guide, batch, 2, 1, 1, start)


def sandwich(
    model: nn.Module,
    guide: Guide,
    rows: int = 50,
    chains: int = 16,
    steps: int = 200,
    leapfrog: int = 8,
    start: Literal["guide", "prior"] = "guide",
) -> Tensor:
    """Upper minus lower bound of log p(x) on data drawn from the model, ``[rows]`` [nats].

    If x was drawn together with z, then z is an exact draw from p(z | x), and chains that run
    backwards from it bound log p(x) from above. A small difference shows that the lower bound is
    tight.

    References:
        Grosse, Ghahramani & Adams (2015), bidirectional Monte Carlo.
    """
    check_simulates(model, "the sandwich")
    with evaluating(model), torch.no_grad():
        drawn, batch = simulate(model, rows)
    exact = {}
    for name, shape in describe(model).latents.items():
        check_plates(name, drawn.nodes[name])
        exact[name] = drawn.nodes[name]["value"].repeat(chains, *(1,) * len(shape))
    with _path(model, guide, batch, chains, steps, leapfrog, start) as path:
        _, sizes = _run(path, chains, None)
        lower = _run(path, chains, sizes)[0].bound
        backwards = _run(path, chains, sizes, exact)[0].log_weights
    return math.log(chains) - (-backwards).logsumexp(0) - lower


@contextmanager
def _path(
    model: nn.Module,
    guide: Guide,
    batch: Batch,
    chains: int,
    steps: int,
    leapfrog: int,
    start: str,
) -> Iterator[Annealing]:
    """The path of all chains; p and q are frozen inside, and the encoder runs once."""
    if steps < 1 or leapfrog < 1:
        raise ValueError(f"steps={steps} and leapfrog={leapfrog} must be at least 1.")
    check_local(model, "annealed importance sampling")
    begin = GUIDES["prior"](model) if start == "prior" else guide
    refuse_points(begin, "annealed importance sampling")
    pinned = guide.pinned(batch) if isinstance(guide, Guide) else nullcontext()
    with frozen(model), frozen(guide):
        check_once(model, begin, batch.each(itemgetter(slice(2))))  # no row depends on others
        with pinned:
            batch = batch.repeated(chains)
            check_once(model, begin, batch)
            check_weights(model, begin, batch)
            try:
                yield Annealing(model, begin, batch, steps, leapfrog)
            except (KeyError, NotImplementedError) as error:  # of transforms without an inverse
                if start == "prior":
                    raise
                raise ValueError(
                    f"annealing from a guide needs log q at given latents: {said_by(error)} "
                    "Anneal from the prior (--ais-from prior)."
                ) from error
