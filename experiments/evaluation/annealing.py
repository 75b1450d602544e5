"""The path of annealed importance sampling, and the moves along it."""

import math
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine import Trace
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor, nn

from experiments.evaluation.sampling.coordinates import (
    FromCoordinates,
    ToCoordinates,
    from_noise,
)
from experiments.inference.checks.sites import run_pair, sites_of
from experiments.inference.density import density, total_density
from experiments.inference.handlers import At
from guides.guide import EffectGuide
from ppl_models.batch import Batch
from ppl_models.coordinates import coordinates, family, is_free
from ppl_models.random_numbers import forked_rng
from ppl_models.sites import describe, is_summed

Latents = dict[str, Tensor]


class Annealing:
    """The path from q to p(x, z) for every row of a batch, and the moves along it.

    If q is made of standard normal noise, as a Gaussian or a flow, the moves are made in this
    noise. There q is standard normal, whatever the scales and correlations of the latents. For
    any other q, moves are made in the unconstrained coordinates of the prior.

    ``start`` is q, a guide or the prior; ``batch`` has the rows repeated for every chain.
    """

    def __init__(
        self, model: nn.Module, start: Any, batch: Batch, steps: int, leapfrog: int
    ) -> None:
        names = list(describe(model).latents)
        p, q = _checked(model, start, batch, names)
        # under a latent that is summed out, the way from noise to z may depend on it
        sums = any(map(is_summed, (*sites_of(p), *sites_of(q))))
        self.in_noise = not sums and all(_is_of_noise(q.nodes[name]) for name in names)
        self.as_they_are = not self.in_noise and all(_is_plain(p.nodes[name]) for name in names)
        self.in_one_run = self.in_noise and isinstance(start, EffectGuide)
        self.log_p, self.log_q = density(model, batch), density(start, batch, names)
        self.batch, self.model, self.start, self.names = batch, model, start, names
        # denser at both ends, where the density changes fastest (Wu et al. 2017)
        grid = torch.linspace(-4, 4, steps + 1, dtype=torch.float64).sigmoid()
        self.betas = ((grid - grid[0]) / (grid[-1] - grid[0])).tolist()
        self.leapfrog = leapfrog

    def first(self) -> Latents:
        """Draws from q."""
        with torch.no_grad(), pyro.validation_enabled(False):
            trace = poutine.trace(self.start).get_trace(self.batch)
        return self.inverted({name: trace.nodes[name]["value"].detach() for name in self.names})

    def inverted(self, z: Latents) -> Latents:
        """Latents in the coordinates of the path, rows first."""
        return z if self.as_they_are else self._through(ToCoordinates, self.names, z).found

    def _through(self, kind: Any, argument: Any, at: Latents | None = None) -> Any:
        """A handler after a run of q or p, whose latents have the values of ``at``."""
        program, of = (self.start, from_noise) if self.in_noise else (self.model, coordinates)
        handler = kind(argument, of)
        with poutine.block(), pyro.validation_enabled(False), At(at or {}), handler:
            program(self.batch)
        return handler

    def densities(self, u: Latents) -> tuple[Tensor, Tensor]:
        """log p(x, z) and log q(z | x) of every row, both as densities of the coordinates."""
        if self.as_they_are:
            return self.log_p(u), self.log_q(u)
        at = self._through(FromCoordinates, u)
        log_p = self._seen_by_q() if self.in_one_run else self.log_p(at.found)
        log_q = _standard_normal(u) if self.in_noise else self.log_q(at.found) + at.volume
        return log_p + at.volume, log_q

    def _seen_by_q(self) -> Tensor:
        """log p(x, z) in the last run of a q that has run the model."""
        trace = prune_subsample_sites(self.start.get_traces()[0])
        trace.compute_log_prob()
        return total_density(trace)

    def ratio(self, u: Latents) -> Tensor:
        """log p(x, z) - log q(z | x), of every row."""
        with torch.no_grad():
            log_p, log_q = self.densities(u)
            return log_p - log_q

    @torch.enable_grad()
    def _energy(self, z: Latents, beta: float) -> tuple[Tensor, Latents]:
        """The annealed log-density and its gradient."""
        leaves = {name: value.detach().requires_grad_() for name, value in z.items()}
        log_p, log_q = self.densities(leaves)
        value = (1 - beta) * log_q + beta * log_p
        gradients = torch.autograd.grad(value.sum(), list(leaves.values()))
        return value.detach(), dict(zip(leaves, gradients, strict=True))

    def move(self, z: Latents, beta: float, size: Tensor) -> tuple[Latents, Tensor]:
        """One Hamiltonian proposal at a temperature; returns which were accepted, ``[S * B]``."""
        momentum = {name: torch.randn_like(value) for name, value in z.items()}
        before, gradient = self._energy(z, beta)
        kinetic = _squares(momentum)
        at, p = z, {n: m + _by_row(size / 2, m) * gradient[n] for n, m in momentum.items()}
        for step in range(self.leapfrog):
            at = {name: value + _by_row(size, value) * p[name] for name, value in at.items()}
            after, gradient = self._energy(at, beta)
            factor = size if step < self.leapfrog - 1 else size / 2
            p = {name: m + _by_row(factor, m) * gradient[name] for name, m in p.items()}
        log_accept = (after - before - (_squares(p) - kinetic) / 2).nan_to_num(-math.inf)
        accepted = torch.rand_like(log_accept).log() < log_accept
        moved = {n: torch.where(_by_row(accepted, v), at[n], v) for n, v in z.items()}
        return moved, accepted


def _checked(
    model: nn.Module, start: nn.Module, batch: Batch, names: list[str]
) -> tuple[Trace, Trace]:
    """A run of p and q.

    Raises:
        ValueError: If all latents are summed out; if q draws latents that do not move along the
            path; at a latent without coordinates.
    """
    if not names:
        raise ValueError(
            f"all latents of {type(model).__name__} are summed out: its importance weights are "
            "p(x) itself, and nothing is left to anneal."
        )
    with torch.no_grad(), poutine.block(), forked_rng():
        p, q = run_pair(model, start, batch)
    for name, site in q.iter_stochastic_nodes():
        if name not in names and not is_summed(site):
            raise ValueError(
                f"annealing needs the density of q, and {type(start).__name__} draws '{name}', "
                "which does not move along the path: mark it infer={'enumerate': 'parallel'}."
            )
    for name in names:
        prior = p.nodes[name]["fn"]
        try:
            coordinates(prior)
        except NotImplementedError:
            raise ValueError(
                f"annealing needs latents with an unconstrained parametrisation; '{name}' "
                f"({family(prior)}) has none. The importance-weighted bound (iw_bound) does not "
                "need one."
            ) from None
    return p, q


def _is_plain(site: Any) -> bool:
    """Whether a latent is unconstrained, and its rows are those of the data."""
    return is_free(site["fn"]) and len(site["cond_indep_stack"]) == 1


def _is_of_noise(site: Any) -> bool:
    """Whether a site of q is made of standard normal noise and is not masked."""
    try:
        from_noise(site["fn"])
    except NotImplementedError:
        return False
    return site["mask"] is None


def _by_row(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *(1,) * (like.ndim - 1))


def _squares(values: Latents) -> Tensor:
    total: Any = sum(value.square().reshape(len(value), -1).sum(1) for value in values.values())
    return total


def _standard_normal(noise: Latents) -> Tensor:
    """The log-density of standard normal noise, of every row."""
    numbers = sum(value[0].numel() for value in noise.values())
    return -(_squares(noise) + numbers * math.log(2 * math.pi)) / 2
