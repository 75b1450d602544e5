"""Modules as they are evaluated: frozen or not, and with rows of a guide that fit the data."""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import pyro
import torch
from pyro import poutine
from pyro.poutine.messenger import block_messengers
from torch import nn

from experiments.data import Data
from experiments.errors import TrainingError, UsageError
from experiments.inference.checks.index_reads import note_rows
from experiments.inference.handlers import TemperKL
from experiments.inference.objectives import STL, LogJoint, Objective
from experiments.inference.optim import adam, cosine, local_tables
from experiments.inference.svi import SVI
from guides import Guide
from guides.local import PerDatumGuide
from guides.point import Point
from ppl_models.sites import evaluating

P = ParamSpec("P")
T = TypeVar("T")


def evaluated(function: Callable[P, T]) -> Callable[P, T]:
    """A function of ``model`` and ``guide`` that sees both in evaluation mode.

    A ``TemperKL`` around the call, as in training, does not reach what it runs.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> T:
        given = signature.bind(*args, **kwargs).arguments
        model, guide = (poutine.unwrap(given[name]) for name in ("model", "guide"))
        plain = block_messengers(lambda handler: isinstance(handler, TemperKL))
        with evaluating(model), evaluating(guide), plain:
            return function(*args, **kwargs)

    return inside


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Inside, the module is in evaluation mode and none of its parameters is trainable."""
    trainable = [p for p in module.parameters() if p.requires_grad]
    module.requires_grad_(False)
    try:
        with evaluating(module):
            yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)


@torch.enable_grad()
def fit_rows(
    model: nn.Module, guide: PerDatumGuide, data: Data, objective: Objective | None = None
) -> list[float]:
    """Fit every row of a per-datum guide, the model frozen.

    The stopping rule is ``guide.local_steps`` steps of row-wise Adam on all rows of a chunk,
    with a cosine from ``guide.local_lr`` to zero.

    Args:
        model: p, left as it is.
        guide: q, with ``len(data)`` rows.
        data: a data set; noise that is drawn at every visit is drawn once instead.
        objective: by default ``STL`` with four particles, the log joint for a point guide.

    Returns:
        The mean loss over the rows at every step [nats per data point].

    Raises:
        TrainingError: If the rows diverge.
    """
    if objective is None:
        objective = LogJoint() if isinstance(guide, Point) else STL(particles=4)
    factor = cosine()
    # as many rows as leave their particles in the processor's cache
    chunk = max(1, 2**21 // (objective.num_particles * data.data_dim))
    losses = torch.zeros(guide.local_steps, dtype=torch.float64)
    with frozen(model), pyro.validation_enabled(False):
        svi = SVI(model, guide, adam(model, guide), objective)
        assert svi.local_optim is not None
        rows = data.fixed().like(model)
        note_rows(guide, rows)
        for batch in rows.batches(chunk):
            for step in range(guide.local_steps):
                for group in svi.local_optim.param_groups:
                    group["lr"] = guide.local_lr * factor(step / guide.local_steps)
                losses[step] += svi.step(batch).cpu() * (len(batch.index) / batch.size)
    if not all(parameter.isfinite().all() for parameter in guide.parameters()):
        raise TrainingError(
            f"the guide's rows diverged at local_lr={guide.local_lr}; a smaller --guide.local-lr "
            "may help."
        )
    return losses.tolist()


def for_data(guide: Any, size: int) -> Any:
    """A guide for a data set of ``size`` rows, where it has rows of its own."""
    return guide.for_data(size) if hasattr(guide, "for_data") else guide


def held_out(model: nn.Module, guide: Guide, data: Data) -> Guide:
    """The guide for another data set: itself, or a new one with rows fitted to those data.

    Raises:
        ValueError: If it has parameters per datum that are not rows of a ``PerDatumGuide``.
    """
    sibling = for_data(guide, len(data))
    check_held_out(guide, sibling)
    if isinstance(sibling, PerDatumGuide):
        sibling.like_model()
        fit_rows(model, sibling, data)
    return sibling


def check_held_out(guide: Any, sibling: Any) -> None:
    """Refuse a guide with parameters per datum that cannot be fitted to held-out data."""
    own = sibling is guide or isinstance(sibling, PerDatumGuide)
    if not own and any(True for _ in sibling.parameters()):
        raise ValueError(
            f"{type(guide).__name__} has parameters for every datum of its own data set: only "
            "mean_field, full_rank and point can be fitted to held-out data."
        )


def announce_rows(guide: Guide, data: Data, memory: float) -> str | None:
    """The size of a per-datum guide's table, to be printed before it is created.

    Args:
        guide: any guide, without rows yet.
        data: the training data of the guide.
        memory: GiB that parameters, gradients and moments may take.

    Raises:
        UsageError: If they need more, or if the data are binarised anew at every visit.
    """
    if not isinstance(guide, PerDatumGuide):
        return None
    if data.binarize == "dynamic":
        raise UsageError(
            "a guide with a row per datum has no fixed target under --binarize dynamic; "
            "train with --binarize static."
        )
    rows = [table.rows for table in local_tables(guide)]
    numbers = len(data) * sum(row.shape[1] for row in rows)
    gib = 4 * numbers * rows[0].element_size() / 2**30  # with gradients and two moments
    line = f"{len(data)} rows, {numbers} numbers, {gib:.3g} GiB with their optimiser"
    if gib > memory:
        raise UsageError(f"the guide's table needs {line}: more than --memory {memory} GiB.")
    return f"table of the guide: {line}"
