"""A guide's view of test images: means of q for all, and q with its ELBO for some."""

import math
from typing import Any, NamedTuple

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from experiments.data import Data
from experiments.evaluation.bounds import encode, rows_at_a_time
from experiments.evaluation.khat import batch_weights
from experiments.evaluation.oracle import as_multivariate_normal
from experiments.inference.checks.rows import is_of_points
from experiments.inference.frozen import held_out
from guides import Guide
from guides.prior import Prior
from ppl_models.batch import Batch

DRAWS = 100
"""Number of draws that show q if it is not Gaussian."""


class View(NamedTuple):
    """One guide's view of N test images, and of n chosen ones.

    ``means`` ``[N, M]``; of the chosen ones ``mean`` ``[n, M]``, ``covariance`` ``[n, M, M]``
    where q is Gaussian, else ``draws`` ``[n, K, M]``, and ``elbo`` with its standard error
    ``[n]`` [nats], which a point has not.
    """

    means: Tensor
    mean: Tensor
    covariance: Tensor | None
    draws: Tensor | None
    elbo: Tensor | None
    elbo_se: Tensor | None


def chosen_rows(labels: Tensor | None, size: int, count: int) -> list[int]:
    """Rows of all classes in turn, up to a number of rows."""
    if labels is None:
        return list(range(min(count, size)))
    by_class = [(labels == kind).nonzero().flatten().tolist() for kind in labels.unique()]
    turns = [rows[turn] for turn in range(size) for rows in by_class if turn < len(rows)]
    return turns[: min(count, size)]


@torch.no_grad()
def view_of(
    model: nn.Module, guide: Guide, data: Data, chosen: list[int], particles: int, memory: float
) -> View:
    """The view of fixed images by a guide, and of those ``chosen`` by their positions.

    The model is in evaluation mode; rows of a per-datum guide are fitted here. The ELBO of an
    image is from ``particles`` draws; ``memory`` limits intermediate values [GiB].
    """
    guide = held_out(model, guide, data)
    with pyro.validation_enabled(False):
        means = torch.cat([encode(guide, batch, model)["z"] for batch in data.batches(1000)])
        batch = data.batch(torch.tensor(chosen, device=means.device))
        gaussian = _gaussian(model, guide, batch)
        spread = None if gaussian is None else gaussian.covariance_matrix
        shown = None
        if gaussian is None and not is_of_points(guide):
            traces = (poutine.trace(guide).get_trace(batch) for _ in range(DRAWS))
            shown = torch.stack([trace.nodes["z"]["value"] for trace in traces], 1)
        mean = means[chosen] if gaussian is None else gaussian.mean
        bound, error = _elbo(model, guide, data, batch.index, particles, memory)
    return View(means, mean, spread, shown, bound, error)


def _gaussian(model: Any, guide: Guide, batch: Batch) -> Any:
    """q(z | x) as a multivariate normal, ``[n, M]``, or ``None`` if it is not one."""
    if isinstance(guide, Prior):
        q = model.prior().expand((len(batch.index),))
    else:
        q = poutine.trace(guide).get_trace(batch).nodes["z"]["fn"]
    return as_multivariate_normal(q)


def _elbo(
    model: nn.Module, guide: Guide, data: Data, chosen: Tensor, particles: int, memory: float
) -> tuple[Tensor | None, Tensor | None]:
    """The mean log-weight of every image and its standard error, ``[n]`` [nats]."""
    if is_of_points(guide):
        return None, None
    at_once = rows_at_a_time(model, data, memory, 20 * len(chosen))
    batches = map(data.batch, chosen.split(at_once))
    log_w = torch.cat(
        [batch_weights(model, guide, batch, particles, at_once) for batch in batches], 1
    )
    return log_w.mean(0), log_w.std(0) / math.sqrt(len(log_w))
