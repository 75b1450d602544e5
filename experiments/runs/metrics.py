"""Final figures of a run, each split with the protocol it was measured under."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from experiments.data import Data
from experiments.evaluation.aggregate import aggregate_figures
from experiments.evaluation.bounds import mean_and_error, per_image
from experiments.evaluation.shared_draws import between_draws_error
from experiments.inference.frozen import held_out
from experiments.runs.errors import TrainingError
from experiments.runs.files import write
from guides import Guide
from guides.exact import Exact
from guides.local import PerDatumGuide
from guides.point import Point
from guides.prior import Prior

__all__ = [
    "Measured",
    "aggregate",
    "aggregate_line",
    "measure",
    "protocol",
    "save_values",
    "summary",
    "table_line",
]

ESTIMATORS: dict[type, str] = {Exact: "exact", Prior: "shared_draws"}
"""Of the bound, where it is not a Monte-Carlo estimate with draws of every image's own."""


class Measured(NamedTuple):
    """Values of every image, and the guide that gave them (fitted anew if per-datum)."""

    values: dict[str, Tensor]
    guide: Guide


def default_particles(guide: nn.Module | None) -> int:
    """Draws per image of a final evaluation: one, and 2000 shared ones where q ignores x."""
    return 2000 if isinstance(guide, Prior) else 1


def measure(
    model: nn.Module, guide: Guide, data: Data, seed: int = 0, particles: int | None = None,
    memory: float = 1.0,
) -> Measured:  # fmt: skip
    """What is measured on every image; held-out rows of a per-datum guide are fitted first.

    The random state is forked and seeded, so that a run and a later look at it agree.
    """
    fixed = data.fixed().like(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fitted = held_out(model, guide, fixed) if fixed.split != "train" else guide
        training = model.training, fitted.training
        model.eval(), fitted.eval()
        values = per_image(model, fitted, fixed, particles or default_particles(guide), memory)
        model.train(training[0]), fitted.train(training[1])
    return Measured(values, fitted)


def summary(values: dict[str, Tensor], guide: nn.Module, particles: int | None) -> dict[str, Any]:
    """Means over images; bounds with their standard errors [nats per data point]."""
    particles = particles or default_particles(guide)
    for name, value in values.items():
        if not value.isfinite().all():
            row = int((~value.isfinite()).nonzero()[0])
            raise TrainingError(f"{name} is not finite for image {row}: the run has diverged.")
    elbo, elbo_se = mean_and_error(values["elbo"])
    evidence = values.get("log_evidence")
    squared, squared_se = mean_and_error(values["squared_error"])
    figures: dict[str, Any] = {
        "elbo": elbo, "elbo_se": elbo_se,
        "rate": values["rate"].mean().item(), "distortion": values["distortion"].mean().item(),
        "log_evidence": None if evidence is None else mean_and_error(evidence)[0],
        "log_evidence_se": None,
        "iw_bound": None, "iw_bound_se": None, "iw_particles": None,
        "squared_error": squared, "squared_error_se": squared_se,
    }  # fmt: skip
    if isinstance(guide, Point):
        for name in ("elbo", "elbo_se", "rate", "distortion"):
            figures[name] = None
        figures |= {"log_joint": elbo, "log_joint_se": elbo_se}
    elif particles > 1:
        bound, bound_se = mean_and_error(values["iw_bound"])
        size, _ = mean_and_error(values["effective_sample_size"])
        figures |= {"iw_bound": bound, "iw_bound_se": bound_se, "iw_particles": particles,
                    "effective_sample_size": size}  # fmt: skip
        if "log_sum" in values:
            figures["iw_bound_draws_se"] = between_draws_error(values["log_sum"].mT)
    return figures


def aggregate(model: nn.Module, guide: Guide, data: Data, seed: int) -> dict[str, Any]:
    """Active units and the aggregate posterior's KL, from a forked random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return aggregate_figures(model, guide, data.fixed().like(model))


def save_values(directory: Path, values: dict[str, Tensor]) -> None:
    """Keep the values of every image, so that runs can be compared image by image."""
    tensors = {name: value.cpu().contiguous() for name, value in values.items() if value.ndim == 1}
    write(directory / "per_image.safetensors", lambda path: save_file(tensors, path))


def protocol(data: Data, guide: nn.Module | None, particles: int | None) -> dict[str, Any]:
    """Everything two figures must share before they may stand side by side."""
    local = guide.local_steps if isinstance(guide, PerDatumGuide) else None
    return {
        "data": data.name,
        "split": data.split,
        "n": len(data),
        "pixels": data.kind,
        "binarize": data.binarize,
        "binarize_seed": data.binarize_seed,
        "data_sha256": data.sha256,
        "estimator": ESTIMATORS.get(type(guide), "monte_carlo"),
        "particles": particles or default_particles(guide),
        "local_steps": local,
    }


def table_line(split: str, figures: dict[str, Any]) -> str:
    """One split's figures, with their units, for the terminal."""
    parts = []
    for name in ("log_joint", "elbo", "iw_bound", "log_evidence"):
        value, error = figures.get(name), figures.get(f"{name}_se")
        if value is not None:
            parts.append(f"{name} {value:.4f}" + (f" ± {error:.4f}" if error is not None else ""))
        if value is not None and figures.get(f"{name}_draws_se") is not None:
            parts[-1] += f" (images) ± {figures[f'{name}_draws_se']:.4f} (draws)"
    parts.append(f"squared error {figures['squared_error']:.4f}")
    return f"{split:<5} " + ", ".join(parts) + "  [nats per data point]"


def aggregate_line(figures: dict[str, Any]) -> str:
    """What the latents carry, and what q(z) misses of the prior, for the terminal."""
    parts = []
    if figures.get("rate") is not None:
        parts.append(f"rate {figures['rate']:.4f}, distortion {figures['distortion']:.4f}")
    if "active_units" in figures:
        kl, error = figures["aggregate_kl"], figures["aggregate_kl_se"]
        parts += [f"{figures['active_units']} active units",
                  f"KL(q(z) || p(z)) {kl:.4f} ± {error:.4f}"]  # fmt: skip
    if "effective_sample_size" in figures:
        size, particles = figures["effective_sample_size"], figures["iw_particles"]
        parts.append(f"effective sample size {size:.1f} of {particles}")
    return "      " + ", ".join(parts)
