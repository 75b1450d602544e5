"""A guide's view of test images: means of q for all, and q with its ELBO for some."""

import math
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from experiments.data import Data
from experiments.errors import UsageError
from experiments.evaluation.bounds import encode, rows_at_a_time
from experiments.evaluation.khat import batch_weights
from experiments.evaluation.oracle import as_multivariate_normal
from experiments.explorer.page import base64_of, quantised, rounded, symmetric
from experiments.inference.checks.rows import is_of_points
from experiments.inference.frozen import held_out
from experiments.training.saved_run import SavedRun
from guides import Guide
from guides.prior import Prior
from ppl_models.batch import Batch

DRAWS = 100
"""Number of draws that show q if it is not Gaussian."""


def chosen_rows(labels: Tensor | None, size: int, count: int) -> list[int]:
    """Rows of all classes in turn, up to a number of rows."""
    if labels is None:
        return list(range(min(count, size)))
    by_class = [(labels == kind).nonzero().flatten().tolist() for kind in labels.unique()]
    turns = [rows[turn] for turn in range(size) for rows in by_class if turn < len(rows)]
    return turns[: min(count, size)]


@torch.no_grad()
def packed_view(
    model: nn.Module, run: SavedRun, data: Data, chosen: list[int], config: Any
) -> dict[str, Any]:
    """The view of fixed images by a run's guide, for ``page.js``.

    It has the means of q for all images, and for those at the positions ``chosen`` also the mean
    of q, its covariance if q is Gaussian, draws if it is neither Gaussian nor a point, and the
    ELBO [nats] unless it is a point. Rows of a per-datum guide are fitted here.

    Raises:
        UsageError: If a mean is not finite.
    """
    guide = held_out(model, run.guide, data)
    view: dict[str, Any] = dict.fromkeys(("covariance", "draws", "elbo", "elbo_se"))
    with pyro.validation_enabled(False):
        means = torch.cat([encode(guide, batch, model)["z"] for batch in data.batches(1000)])
        batch = data.batch(torch.tensor(chosen, device=means.device))
        gaussian = _gaussian(model, guide, batch)
        mean = means[chosen] if gaussian is None else gaussian.mean
        if gaussian is not None:
            view["covariance"] = symmetric(gaussian.covariance_matrix)
        elif not is_of_points(guide):
            traces = (poutine.trace(guide).get_trace(batch) for _ in range(DRAWS))
            draws = torch.stack([trace.nodes["z"]["value"] for trace in traces], 1)
            view["draws"] = base64_of(draws, "float32")
        if not is_of_points(guide):
            at_once = rows_at_a_time(model, data, config.memory, 20 * len(chosen))
            parts = map(data.batch, batch.index.split(at_once))
            log_w = torch.cat(
                [batch_weights(model, guide, part, config.particles, at_once) for part in parts], 1
            )
            view["elbo"] = rounded(log_w.mean(0))
            view["elbo_se"] = rounded(log_w.std(0) / math.sqrt(len(log_w)))
    if not (means.isfinite().all() and mean.isfinite().all()):
        raise UsageError(f"{run.directory} encodes images by numbers that are not finite.")
    return {"cloud": quantised(means), "mean": base64_of(mean, "float32"), **view}


def _gaussian(model: Any, guide: Guide, batch: Batch) -> Any:
    """q(z | x) as a multivariate normal, ``[n, M]``, or ``None`` if it is not one."""
    if isinstance(guide, Prior):
        q = model.prior().expand((len(batch.index),))
    else:
        q = poutine.trace(guide).get_trace(batch).nodes["z"]["fn"]
    return as_multivariate_normal(q)
