"""The ELBO of four guides approaching the exact evidence of PPCA."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from PIL import Image
from pyro import poutine
from torch import Tensor

from experiments.animations.frames import picture, training
from experiments.data import Data
from experiments.evaluation.oracle import diagonal_gap, gap_in_closed_form, rotate_to_largest_gap
from experiments.inference.objectives import STL
from experiments.inference.optim import muon
from experiments.inference.svi import SVI
from guides import GUIDES
from ppl_models import PPCA
from ppl_models.random_numbers import forked_rng

COMPARED: dict[str, tuple[str, dict[str, Any], str]] = {
    "mean_field": ("mean_field", {}, "tab:red"),
    "amortized, linear, diagonal": ("amortized", {"encoder": "linear"}, "tab:orange"),
    "full_rank": ("full_rank", {}, "tab:blue"),
    "amortized, linear, full": (
        "amortized",
        {"encoder": "linear", "covariance": "full"},
        "tab:cyan",
    ),
}
"""Two families that must lose something here, and two that need not."""
LATENTS, ROWS = 10, 500

Frame = tuple[int, float, tuple[Tensor, Tensor]]
"""Step, mean gap [nats per data point], mean and covariance of q for one image."""


def evidence(config: Any, train: Data, test: Data) -> Iterator[Image.Image]:
    """PPCA at its maximum-likelihood solution, with W rotated so that a diagonal q loses most.

    All guides see the same 500 images in whole batches; gaps are KL(q || p(z | x)) in closed form.
    """
    rows = train.rows(min(ROWS, len(train)))
    x = rows.like(PPCA(rows.data_dim, LATENTS)).observations()
    model = rotate_to_largest_gap(PPCA.maximum_likelihood(x, LATENTS)).requires_grad_(False)
    data, seen = rows.like(model), {name: _trained(config, model, rows, name) for name in COMPARED}
    log_evidence = model.marginal().log_prob(data.observations()).mean().item()
    exact = model.posterior(data.observations()[:1])
    floor = diagonal_gap(model).item()
    for shown in range(1, 1 + len(next(iter(seen.values())))):
        parts = {name: frames[:shown] for name, frames in seen.items()}
        target = exact.mean[0], exact.covariance_matrix[0]
        yield picture(_figure(parts, target, log_evidence, floor, config.steps))


def _trained(config: Any, model: PPCA, rows: Data, name: str) -> list[Frame]:
    """One guide's gaps during training, and its q of the first image."""
    kind, options, _ = COMPARED[name]
    torch.manual_seed(config.seed)
    guide = GUIDES[kind](model, **options).for_data(len(rows))
    data = rows.like(model)
    svi = SVI(model, guide, muon(model, guide, 0.05), STL(particles=4))
    frames = []
    for step in training(svi, data, config.steps, len(data), config.frames, config.seed):
        with torch.no_grad(), forked_rng():
            gap = gap_in_closed_form(model, guide, data)
            assert gap is not None
            q = poutine.trace(guide).get_trace(data.batch(torch.arange(1))).nodes["z"]["fn"]
            full = getattr(q, "covariance_matrix", None)
            spread = torch.diag(q.variance[0]) if full is None else full[0]
        frames.append((step, gap.mean().item(), (q.mean[0], spread)))
    return frames


def _figure(
    parts: dict[str, list[Frame]],
    exact: tuple[Tensor, Tensor],
    log_evidence: float,
    floor: float,
    last: int,
) -> Figure:
    """The ELBOs up to a frame, on an axis up to the last step, and q of one image."""
    figure = Figure(figsize=(8.4, 4.3), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.4, 1))
    left.axhline(log_evidence, color="black", lw=1.2, label="log p(x), exact")
    left.axhline(log_evidence - floor, color="grey", lw=1.2, ls="--", label="best diagonal q")
    for name, frames in parts.items():
        steps, gaps, _ = zip(*frames, strict=True)
        x, y = 1 + np.array(steps), log_evidence - np.array(gaps)
        left.plot(x, y, lw=1.8, color=COMPARED[name][2], label=name)
    left.set(xscale="log", xlabel="steps", ylabel="ELBO [nats per data point]")
    left.set(xlim=(1, 1 + last), ylim=(log_evidence - 6 * floor, log_evidence + 0.4 * floor))
    left.set(title=f"step {next(iter(parts.values()))[-1][0]}")
    left.legend(loc="center left", fontsize=8)
    _plane(right, parts, exact)
    return figure


def _plane(axis: Axes, parts: dict[str, list[Frame]], exact: tuple[Tensor, Tensor]) -> None:
    """q of one image in the two latents with the highest posterior correlation."""
    mean, covariance = exact
    scale = covariance.diagonal().sqrt()
    tied = (covariance / scale / scale[:, None]).abs().fill_diagonal_(0)
    pair = sorted(divmod(int(tied.argmax()), len(mean)))
    for name, frames in parts.items():
        axis.add_patch(_ellipse(frames[-1][2], pair, COMPARED[name][2], "-"))
    axis.add_patch(_ellipse(exact, pair, "black", "--"))
    (x, y), reach = mean[pair].tolist(), 4 * scale[pair].max().item()
    axis.set(xlim=(x - reach, x + reach), ylim=(y - reach, y + reach), aspect="equal")
    axis.set(xlabel=f"$z_{{{pair[0] + 1}}}$", ylabel=f"$z_{{{pair[1] + 1}}}$")
    axis.set(title="q(z | x) of an image, two sigma")


def _ellipse(q: tuple[Tensor, Tensor], pair: list[int], colour: str, style: str) -> Ellipse:
    (x, y), covariance = q[0][pair].tolist(), q[1][pair][:, pair]
    values, vectors = torch.linalg.eigh(covariance)
    angle = torch.rad2deg(torch.atan2(vectors[1, 1], vectors[0, 1])).item()
    width, height = (4 * values.flip(0).sqrt()).tolist()
    return Ellipse((x, y), width, height, angle=angle, fill=False, color=colour, lw=1.8, ls=style)
