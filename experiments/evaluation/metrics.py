"""Final figures of a run, with the protocol of each split."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from experiments.data import Data, as_data
from experiments.errors import TrainingError
from experiments.evaluation.bounds import mean_and_error, per_image
from experiments.evaluation.shared_draws import between_draws_error, block_sizes
from experiments.inference.checks.index_reads import has_rows_of_other_data
from experiments.inference.checks.pair_check import draws_are_shared
from experiments.inference.checks.rows import is_of_points
from experiments.inference.frozen import evaluated, held_out
from guides import Guide
from guides.exact import Exact
from guides.prior import Prior
from ppl_models.random_numbers import seeded
from ppl_models.sites import describe, evaluating, prior_trace


class Measured(NamedTuple):
    """Values of every image, and the guide used (refitted if it is a per-datum guide)."""

    values: dict[str, Tensor]
    guide: Guide


def default_particles(guide: nn.Module | None) -> int:
    """Draws per image in a final evaluation: one, or 2000 shared ones if q ignores x."""
    return 2000 if isinstance(guide, Prior) and describe(guide.model).latents else 1


def estimator(guide: nn.Module | None, data: Data) -> str:
    """The estimator of the bound: exact, shared draws, or Monte Carlo with separate ones."""
    if not isinstance(guide, Prior):
        return "exact" if type(guide) is Exact else "monte_carlo"
    if not describe(guide.model).latents:
        return "exact"  # all of them are summed out
    try:
        with evaluating(guide.model):
            shared = draws_are_shared(guide.model, guide, data.fixed().like(guide.model))
    except ValueError:
        shared = False  # a bound per datum is refused, as for global latents
    return "shared_draws" if shared else "monte_carlo"


@evaluated
def measure(
    model: nn.Module,
    guide: Guide,
    data: Data,
    seed: int = 0,
    particles: int | None = None,
    memory: float = 1.0,
) -> Measured:
    """Measure every image; rows of a per-datum guide are first fitted to held-out data.

    The random state is forked and seeded, so that a run and its later evaluation agree.
    """
    fixed = data.fixed().like(model)
    with seeded(seed):
        elsewhere = fixed.split != "train" or has_rows_of_other_data(guide, fixed)
        fitted = held_out(model, guide, fixed) if elsewhere else guide
        values = per_image(model, fitted, fixed, particles or default_particles(guide), memory)
    return Measured(values, fitted)


def summary(values: dict[str, Tensor], guide: nn.Module, particles: int | None) -> dict[str, Any]:
    """Means over images; bounds with their standard errors [nats per data point]."""
    particles = particles or default_particles(guide)
    error = values.get("squared_error")
    if error is not None and not error.isfinite().all():  # as of a Cauchy, which has no mean
        values = {name: value for name, value in values.items() if name != "squared_error"}
    for name, value in values.items():
        if not value.isfinite().all():
            row = int((~value.isfinite()).nonzero()[0])
            raise TrainingError(f"{name} is not finite for image {row}: the run has diverged.")
    means = {name: mean_and_error(value) for name, value in values.items() if value.ndim == 1}
    (elbo, elbo_se), unknown = means["elbo"], (None, None)
    squared, squared_se = means.get("squared_error", unknown)
    figures: dict[str, Any] = {
        "elbo": elbo,
        "elbo_se": elbo_se,
        "rate": values["rate"].mean().item(),
        "distortion": values["distortion"].mean().item(),
        "log_evidence": means.get("log_evidence", unknown)[0],
        **dict.fromkeys(("log_evidence_se", "iw_bound", "iw_bound_se", "iw_particles")),
        "squared_error": squared,
        "squared_error_se": squared_se,
    }
    if is_of_points(guide):
        figures |= dict.fromkeys(("elbo", "elbo_se", "rate", "distortion"))
        figures |= {"log_joint": elbo, "log_joint_se": elbo_se}
    elif particles > 1:
        sizes = values["effective_sample_size"].double()
        figures["iw_bound"], figures["iw_bound_se"] = means["iw_bound"]
        figures |= {
            "iw_particles": particles,
            "effective_sample_size": sizes.mean().item(),
            "effective_sample_size_q05": sizes.quantile(0.05).item(),
        }
    if "log_sum" in values:
        figures |= draws_errors(values, particles)
    return figures | bits_per_dimension(figures, getattr(guide, "model", None))


def evaluate(
    model: nn.Module,
    guide: Guide,
    data: Data | Any,
    particles: int | None = None,
    seed: int = 0,
    memory: float = 1.0,
) -> dict[str, Any]:
    """Bounds on log p(x) and the squared error on a data set.

    Args:
        model: p(x, z).
        guide: q(z | x); rows of a per-datum guide are fitted first if the data are a test split
            or known to be others than those it was trained on.
        data: whatever ``as_data`` takes, with N rows.
        particles: K, draws per datum; by default 1, and 2000 under ``prior``, shared by all data
            where only x is observed and nothing is given.
        seed: seed of the draws; the global random state is not changed.
        memory: limit for intermediate values [GiB].

    Returns:
        Means over the data [nats per data point], None where undefined: ``elbo``, ``rate``,
        ``distortion``; ``log_evidence``, only where exact; with K > 1 ``iw_bound``,
        ``iw_particles`` and ``effective_sample_size`` (with its 5% quantile over data,
        ``effective_sample_size_q05``); ``squared_error`` [squared units of x].
        ``elbo_se``, ``iw_bound_se`` and ``squared_error_se`` are standard errors over data. A
        guide of points has ``log_joint`` in place of the ELBO and its parts. Shared draws add
        ``..._draws_se``; probabilities of RGB images add ``..._bits_per_dimension``.

    Raises:
        TrainingError: If a value is not finite, or fitted rows diverge.
        ValueError: If the pair gives no bound per datum (a global latent, a scaled density, a
            factor in the guide, points of a guide whose objective is not ``log_joint``), or the
            data do not fit the model.
    """
    measured = measure(model, guide, as_data(data), seed, particles, memory)
    return summary(measured.values, guide, particles)


def bits_per_dimension(figures: dict[str, Any], model: Any) -> dict[str, float]:
    """Bounds on probabilities of RGB images in bits per dimension; empty for other images."""
    shape = getattr(model, "data_shape", (1,))
    if shape[0] != 3 or measure_of(model) != "probability":
        return {}
    numbers = math.prod(shape) * math.log(2)
    names = [name for name in ("elbo", "iw_bound") if figures.get(name) is not None]
    return {f"{name}_bits_per_dimension": -figures[name] / numbers for name in names}


def draws_errors(values: dict[str, Tensor], particles: int) -> dict[str, float | None]:
    """The part of the standard errors that comes from draws shared by all images."""
    sizes = block_sizes(particles)
    elbos = values["sum_log"].double().mean(0).cpu() / torch.tensor(sizes, dtype=torch.float64)
    elbo_error = (elbos.std() / len(sizes) ** 0.5).item() if len(sizes) >= 10 else None
    bound_error = between_draws_error(values["log_sum"].mT, sizes)
    return {"elbo_draws_se": elbo_error, "iw_bound_draws_se": bound_error}


def protocol(data: Data, guide: nn.Module | None, particles: int | None) -> dict[str, Any]:
    """Everything that two figures must share to be comparable."""
    return {
        "data": data.name,
        "split": data.split,
        "n": len(data),
        "shape": list(data.image_shape),
        "pixels": data.kind,
        "measure": measure_of(guide.model) if isinstance(guide, Guide) else None,
        "binarize": data.binarize,
        "binarize_seed": data.binarize_seed,
        "given": sorted(data.given) or None,
        "data_sha256": data.sha256,
        "read": data.source.read or None,
        "estimator": estimator(guide, data),
        "particles": particles or default_particles(guide),
        "local_steps": getattr(guide, "local_steps", None),
    }


def measure_of(model: nn.Module) -> str:
    """Whether p(x | z) is a density, a probability or both; these are never compared."""
    for part in (getattr(model, "likelihood", None), model):
        measure = getattr(part, "measure", None)
        if isinstance(measure, str):
            return measure
    nodes = prior_trace(model).nodes
    discrete = {nodes[name]["fn"].support.is_discrete for name in describe(model).observed}
    return {(True,): "probability", (False,): "density"}.get((*discrete,), "both")
