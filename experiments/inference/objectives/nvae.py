"""NVAE's training objective, in parts that other models may use too."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from experiments.inference.objectives import IWAE, AnalyticKL, Objective
from experiments.inference.traces import log_likelihood, site_kls
from ppl_models.batch import Batch

VARIANTS = {
    "equal": lambda j, groups: 1.0,
    "linear": lambda j, groups: 2.0**j,
    "sqrt": lambda j, groups: 2.0 ** (j / 2),
    "square": lambda j, groups: 4.0**j / groups,
}
"""A group's size, by its scale j, 0 the coarsest, and the number of groups of that scale."""


def group_sizes(groups_per_scale: tuple[int, ...], variant: str = "square") -> Tensor:
    """a_l of every group, coarse to fine, ``[G]``, by a rule of ``VARIANTS``; the least is 1."""
    size = VARIANTS[variant]
    sizes = [size(j, number) for j, number in enumerate(groups_per_scale) for _ in range(number)]
    return torch.tensor(sizes) / min(sizes)


def balancing_weights(kls: Tensor, sizes: Tensor) -> Tensor:
    """gamma_l, with mean one: larger where a group's KL is large for its size, ``[G]``.

    Args:
        kls: KL of every image and group, ``[B, G]`` [nats]; negative values occur with flows.
        sizes: a_l, ``[G]``.

    References:
        Vahdat & Kautz (2020), after Chen et al. (2017).
    """
    weight = (kls.abs().mean(0) + 0.01) / sizes.to(kls)
    return (weight / weight.mean()).detach()


class BalancedKL(AnalyticKL):
    """``elbo_analytic_kl`` with KLs balanced over groups while a ``TemperKL`` below one is active.

    At beta one it is the plain bound; below one it is a loss, not a bound.

    Args:
        groups_per_scale: number of groups per scale of the model, coarse to fine.
        variant: the rule for the sizes of groups, a name in ``VARIANTS``.

    References:
        Vahdat & Kautz (2020).
    """

    def __init__(self, groups_per_scale: tuple[int, ...], variant: str = "square") -> None:
        super().__init__()
        self.sizes = group_sizes(groups_per_scale, variant)

    def bound(self, model_trace: Trace, guide_trace: Trace, batch: Batch) -> Tensor:
        kls, self.sampled_sites = site_kls(model_trace, guide_trace)
        data_scale = model_trace.nodes["x"]["scale"]
        groups = [name for name in model_trace.nodes if name in kls]  # q may draw in another order
        beta = guide_trace.nodes[groups[0]]["scale"] / data_scale
        # at beta zero all KLs are scaled to zero, and any weights are right
        plain = [kls[name] / _or_one(guide_trace.nodes[name]["scale"]) for name in groups]
        by_group = torch.stack([kl.flatten() for kl in plain], -1)
        weights = balancing_weights(by_group, self.sizes)
        whole = beta > 1 - 1e-6  # on a GPU, N / B divided by itself may be less than 1
        factors = dict(zip(groups, torch.where(torch.as_tensor(whole), 1.0, weights), strict=True))
        divergence: Any = sum(factors.get(name, 1.0) * kl.sum() for name, kl in kls.items())
        return self.mean(log_likelihood(model_trace) - divergence)


def _or_one(scale: float | Tensor) -> Tensor:
    scale = torch.as_tensor(scale)
    return torch.where(scale > 0, scale, 1.0)


class FineTuned(Objective):
    """An objective that is replaced by the importance-weighted bound late in training.

    Args:
        objective: the objective that is maximised first.
        particles: importance samples per datum afterwards.

    Attributes:
        last: whether it has been replaced; may be set between steps.

    References:
        Burda, Grosse & Salakhutdinov (2016); Sonderby et al. (2016) fine-tune with it.
    """

    def __init__(self, objective: Objective, particles: int = 5) -> None:
        super().__init__(objective.num_particles)
        self.objective, self.weighted, self.last = objective, IWAE(particles), False

    def differentiable_loss(self, model: Callable, guide: Callable, batch: Batch) -> Tensor:
        chosen = self.weighted if self.last else self.objective
        return chosen.differentiable_loss(model, guide, batch)


class Regularised(Objective):
    """Another objective with penalties on the parameters added to its loss.

    Args:
        objective: the objective that is maximised.
        penalties: functions called at every step; each returns a scalar with its gradient.
        weight: weight of the sum of penalties, per data point; may be changed between steps.
    """

    def __init__(
        self, objective: Objective, penalties: Sequence[Callable[[], Tensor]], weight: float
    ) -> None:
        super().__init__(objective.num_particles)
        self.objective, self.penalties, self.weight = objective, penalties, weight

    def differentiable_loss(self, model: Callable, guide: Callable, batch: Batch) -> Tensor:
        loss = self.objective.differentiable_loss(model, guide, batch)
        penalty: Any = sum(part() for part in self.penalties)
        return loss + self.weight * batch.size * penalty
