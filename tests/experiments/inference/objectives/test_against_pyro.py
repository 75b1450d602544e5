"""On random programs, losses and gradients are those of Pyro's own objectives."""

import math

import pyro
import torch
from pyro import poutine
from pyro.infer import RenyiELBO, Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO

from experiments.inference.objectives import (
    ELBO,
    IWAE,
    AnalyticKL,
    EnumeratedELBO,
    Objective,
    Renyi,
)
from ppl_models import Batch
from tests.shared.random_programs import COLUMNS, Diagonal, Shape, Story

ALPHA = 0.5


class Case:
    """A random program with its guide and a minibatch of its data.

    Args:
        seed: of all of it.
        sums: whether the program has a latent that is summed out.
    """

    def __init__(self, seed, sums=False) -> None:
        torch.manual_seed(seed)
        self.particles, self.seed = (1, 4)[seed % 2], seed
        self.shape = Shape(seed)
        self.model, self.guide = Story(self.shape, sums), Diagonal(self.shape)
        rows = int(torch.randint(1, 6, ()))
        size = rows if seed % 3 == 0 else rows + int(torch.randint(1, 9, ()))
        index = torch.randperm(size)[:rows]
        self.batch = Batch(torch.randn(rows, COLUMNS), index, size)

    @property
    def whole(self):
        return len(self.batch.index) == self.batch.size

    def pyros(self, kind, **options):
        together = self.particles > 1
        return kind(
            num_particles=self.particles,
            vectorize_particles=together,
            max_plate_nesting=self.shape.depth,
            **options,
        )

    def found(self, objective):
        """The loss and its gradients, from the same random state each time."""
        parameters = [*self.model.parameters(), *self.guide.parameters()]
        torch.manual_seed(self.seed)
        if isinstance(objective, Objective) or not hasattr(objective, "loss_and_grads"):
            loss = objective.differentiable_loss(self.model, self.guide, self.batch)
            loss.backward()
        else:
            with poutine.trace(param_only=True), pyro.get_param_store().scope():
                loss = objective.loss_and_grads(self.model, self.guide, self.batch)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        for parameter in parameters:
            parameter.grad = None
        return torch.cat([torch.as_tensor(loss).detach().reshape(1), *map(torch.ravel, gradients)])

    def difference(self, ours, theirs):
        """Largest difference of loss and gradients, in units of the largest of them."""
        one, other = self.found(ours), self.found(theirs)
        return ((one - other).abs().max() / other.abs().max()).item()


class ByDefinition:
    """The negative Rényi bound, summed over the data, from the densities of Pyro's traces.

    Args:
        particles: S.
        alpha: its order.
        depth: dimensions of the plates.
        categories: of a latent y in the plate of the data, over whose values p is added up.
    """

    def __init__(self, particles, alpha, depth, categories=None) -> None:
        self.particles, self.alpha, self.depth = particles, alpha, depth
        self.categories = categories

    def differentiable_loss(self, model, guide, batch):
        outer = pyro.plate("particles", self.particles, dim=-1 - self.depth)
        guide_trace = poutine.trace(outer(guide)).get_trace(batch)

        def log_p(story):
            replayed = poutine.replay(outer(story), trace=guide_trace)
            return self.by_datum(poutine.trace(replayed).get_trace(batch), batch)

        if self.categories is None:
            total = log_p(model)
        else:
            values = [torch.tensor(k) for k in range(self.categories)]
            parts = [log_p(poutine.condition(model, data={"y": y})) for y in values]
            total = torch.stack(parts).logsumexp(0)
        log_w = total - self.by_datum(guide_trace, batch)
        power = 1 - self.alpha
        bound = (power * log_w).logsumexp(0) - math.log(self.particles)
        return -bound.sum() / power * batch.size / len(batch.index)

    def by_datum(self, trace, batch):
        """Unscaled log-densities added up, ``[S, B]``."""
        trace.compute_log_prob()
        total = torch.zeros(self.particles, len(batch.index))
        for site in trace.nodes.values():
            if site["type"] == "sample" and not poutine.util.site_is_subsample(site):
                part = site["log_prob"] / site["scale"]
                part = part.expand(self.particles, *part.shape[1:])
                total = total + part.flatten(1, -2).sum(1) if part.ndim > 2 else total + part
        return total


def renyi(case, alpha, categories=None):
    """What Pyro says, where it is right; the definition elsewhere.

    Pyro's bound is wrong for minibatches: N / B multiplies log-weights inside the logarithm.
    """
    if case.whole and categories is None:
        return case.pyros(RenyiELBO, alpha=alpha)
    return ByDefinition(case.particles, alpha, case.shape.depth, categories)


def pairs(seed):
    """Our objectives beside Pyro's, on the program of a seed."""
    case, summed = Case(seed), Case(seed, sums=True)
    n = case.particles
    yield "elbo", case, ELBO(n), case.pyros(Trace_ELBO)
    yield "elbo_analytic_kl", case, AnalyticKL(n), case.pyros(TraceMeanField_ELBO)
    yield "renyi", case, Renyi(n, ALPHA), renyi(case, ALPHA)
    yield "iwae", case, IWAE(n), renyi(case, 0.0)
    yield "elbo_enum", summed, EnumeratedELBO(n), summed.pyros(TraceEnum_ELBO)
    if summed.shape.y != "inside":
        categories = summed.shape.categories
        yield "iwae, y summed out", summed, IWAE(n), renyi(summed, 0.0, categories)
        yield "renyi, y summed out", summed, Renyi(n, ALPHA), renyi(summed, ALPHA, categories)


def test_losses_and_gradients_are_those_of_pyro():
    offenders, tried = {}, 0
    for seed in range(30):
        for name, case, ours, theirs in pairs(seed):
            difference = case.difference(ours, theirs)
            tried += 1
            if not difference < 1e-9:
                offenders[seed, name] = difference
    assert tried > 150
    assert not offenders
