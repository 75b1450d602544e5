"""The path of annealed importance sampling, and the moves along it."""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn

from experiments.inference.checks.sites import run_pair
from experiments.inference.density import density
from experiments.inference.handlers import At
from ppl_models.batch import Batch
from ppl_models.coordinates import FromCoordinates, ToCoordinates, coordinates, family, is_free
from ppl_models.sites import describe, is_summed

__all__ = ["Annealing", "InBase", "Latents"]

Latents = dict[str, Tensor]


class Annealing:
    """The path from q to p(x, z) for every row of a batch, and the moves along it.

    Args:
        model: p.
        start: q, the initial distribution: a guide, possibly the prior.
        batch: rows, repeated for every chain.
        steps: T, number of temperatures.
        leapfrog: leapfrog steps per proposal.
    """

    def __init__(
        self, model: nn.Module, start: nn.Module, batch: Batch, steps: int, leapfrog: int
    ) -> None:
        names = list(describe(model).latents)
        self.free = _all_free(model, start, batch, names)
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
        """Latents in the coordinates of the path: unconstrained numbers, rows first."""
        return z if self.free else self._through(ToCoordinates(self.names), z).found

    def _through(self, handler: Any, at: Latents | None = None) -> Any:
        """The handler after a run of the model, whose latents have the values of ``at``."""
        with poutine.block(), pyro.validation_enabled(False), At(at or {}), handler:
            self.model(self.batch)
        return handler

    def densities(self, u: Latents) -> tuple[Tensor, Tensor]:
        """log p(x, z) and log q(z | x) of every row, both as densities of the coordinates."""
        if self.free:
            log_q = self.log_q(u)
            return self.log_p(u), log_q
        at = self._through(FromCoordinates(u))
        return self.log_p(at.found) + at.volume, self.log_q(at.found) + at.volume

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


def _all_free(model: nn.Module, start: nn.Module, batch: Batch, names: list[str]) -> bool:
    """Whether all latents are unconstrained, and their rows are those of the data.

    Raises:
        ValueError: If all latents are summed out; if q draws latents that do not move along the
            path; at a latent without coordinates.
    """
    if not names:
        raise ValueError(
            f"all latents of {type(model).__name__} are summed out: its importance weights are "
            "p(x) itself, and nothing is left to anneal."
        )
    with torch.no_grad(), poutine.block(), torch.random.fork_rng(devices=[]):
        p, q = run_pair(model, start, batch)
    for name, site in q.iter_stochastic_nodes():
        if name not in names and not is_summed(site):
            raise ValueError(
                f"annealing needs the density of q, and {type(start).__name__} draws '{name}', "
                "which does not move along the path: mark it infer={'enumerate': 'parallel'}."
            )
    sites = {name: p.nodes[name] for name in names}
    for name, site in sites.items():
        try:
            coordinates(site["fn"])
        except NotImplementedError:
            raise ValueError(
                f"annealing needs latents that are a smooth map of real numbers; '{name}' "
                f"({family(site['fn'])}) is none. Bounds by importance weights (iw_bound) "
                "need no such map."
            ) from None
    return all(is_free(s["fn"]) and len(s["cond_indep_stack"]) == 1 for s in sites.values())


class InBase(Annealing):
    """The same path in the coordinates of a flow's base.

    There q is Gaussian, and no transform has to be inverted (an autoregressive one would take a
    pass per latent); p(x, z) is multiplied by the determinant of the transforms.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        (self.name,) = self.names
        with torch.no_grad(), pyro.validation_enabled(False):
            base = poutine.trace(self.start).get_trace(self.batch).nodes[self.name]["fn"]
        self.transforms: list[Any] = []
        while isinstance(base, dist.TransformedDistribution):
            base, self.transforms = base.base_dist, [*base.transforms, *self.transforms]
        self.base, self.free = base, True
        self.log_p_of_latents = self.log_p
        self.log_p, self.log_q = self._log_p, lambda u: self.base.log_prob(u[self.name])

    def _log_p(self, u: Latents) -> Tensor:
        z, volume = u[self.name], torch.zeros(())
        for transform in self.transforms:
            bent = transform(z)
            volume, z = volume + transform.log_abs_det_jacobian(z, bent), bent
        return self.log_p_of_latents({self.name: z}) + volume

    def first(self) -> Latents:
        return {self.name: self.base.sample()}

    def inverted(self, z: Latents) -> Latents:
        u = z[self.name]
        for transform in reversed(self.transforms):
            u = transform.inv(u)
        return {self.name: u}


def _by_row(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *(1,) * (like.ndim - 1))


def _squares(values: Latents) -> Tensor:
    total: Any = sum(value.square().reshape(len(value), -1).sum(1) for value in values.values())
    return total
