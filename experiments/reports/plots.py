"""Pictures: each function takes numbers and returns a figure."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import Tensor

from experiments.reports.bars import bars as bars
from experiments.reports.bars import stacked as stacked
from experiments.reports.tiles import grids as grids
from experiments.reports.tiles import images_in_rows, plain_text

MOST_NAMES = 30
"""Classes that a colour bar names."""


SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
"""Digits without the parser of mathtext, which takes half a second."""


def two_directions(z: Tensor, directions: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Encodings ``[N, 2]`` as they are, or along the two leading directions of ``[N, M]``.

    Returns them with the directions ``[M, 2]``, so that another set can be shown in the same.
    """
    if directions is None:
        if z.shape[1] <= 2:
            directions = torch.eye(z.shape[1], 2, dtype=z.dtype, device=z.device)
        else:
            _, vectors = torch.linalg.eigh(torch.cov(z.mT))
            directions = vectors[:, [-1, -2]]
    return z @ directions, directions


def encodings(
    train: Tensor,
    test: Tensor,
    labels: Sequence[Tensor | None],
    title: str,
    classes: Sequence[str] = (),
) -> Figure:
    """Train and test encodings ``[N, 2]`` side by side, coloured by class, one colour bar."""
    found = [int(label.max()) + 1 for label in labels if label is not None]
    number = len(classes) or max([10, *found])
    few = number <= MOST_NAMES
    right = 0.80 if classes and few else 0.92  # room for the names of classes
    figure = Figure(figsize=(9, 4.4))  # an automatic layout would draw it several times
    place = {"left": 0.07, "right": right, "bottom": 0.11, "top": 0.86, "wspace": 0.06}
    axes = figure.subplots(1, 2, sharex=True, sharey=True, gridspec_kw=place)
    colours: dict[str, Any] = {"cmap": _class_colours(number), "vmin": -0.5, "vmax": number - 0.5}
    flat = not any(bool((z[:, 1] != 0).any()) for z in (train, test))  # of one latent
    for axis, z, label, name in zip(axes, (train, test), labels, ("train", "test"), strict=True):
        points = z[:10000].double().cpu().numpy()
        shown = {} if label is None else {"c": label[:10000].cpu().numpy(), **colours}
        drawn = axis.scatter(points[:, 0], points[:, 1], s=4, rasterized=True, **shown)
        axis.set(title=name, xlabel="z₁", aspect="auto" if flat else "equal")
    if flat:
        axes[0].set_yticks([])
    else:
        axes[0].set_ylabel("z₂")
    if labels[0] is not None:
        scale = figure.add_axes((right + 0.02, 0.11, 0.012, 0.75))
        bar = figure.colorbar(
            drawn, cax=scale, ticks=range(number) if few else None, label="class"
        )
        if classes and few:
            bar.set_ticklabels(plain_text(name[:20] for name in classes))
    figure.suptitle(*plain_text([title]))
    return figure


def _class_colours(number: int) -> Any:
    """Ten or twenty colours that are told apart, or a scale of more."""
    if number > 20:
        return "turbo"
    colours: Any = colormaps["tab10" if number <= 10 else "tab20"]
    return ListedColormap(colours.colors[:number])


def loss_curve(
    losses: Sequence[float], per_epoch: int, name: str, means: Sequence[float] | None = None
) -> Figure:
    """The loss of every step [nats per data point], and its mean over each epoch.

    ``means`` are over each epoch's rows; by default the steps' means, for batches of one size.
    """
    figure = Figure(figsize=(7, 4))
    place = {"left": 0.13, "right": 0.98, "bottom": 0.13, "top": 0.97}
    axis = figure.subplots(gridspec_kw=place)
    values = np.asarray(losses)
    axis.plot(np.arange(1, len(values) + 1), values, lw=0.6, alpha=0.5, label="every step")
    if means is None:
        means = [values[i : i + per_epoch].mean() for i in range(0, len(values), per_epoch)]
    ends = np.minimum(np.arange(1, len(means) + 1) * per_epoch, len(values))
    axis.plot(ends, means, "o-", ms=3, label="mean of an epoch")
    axis.set(xlabel="iteration", ylabel=f"loss ({name}) [nats per data point]")
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), np.quantile(finite, 0.95)) if finite.size else (0.0, 0.0)
    if high > low:
        axis.set_ylim(low - 0.05 * (high - low), high + 0.1 * (high - low))
    axis.legend()
    return figure


def columns(W: Tensor, mu: Tensor, image_shape: Sequence[int]) -> Figure:
    """The mean and the first ten columns of W as images, red above zero and blue below."""
    shown = torch.cat([mu[None], W.mT[:10]]).reshape(-1, *image_shape)
    names = ["μ"] + [f"w{k}".translate(SUBSCRIPTS) for k in range(1, len(shown))]
    return images_in_rows({"": shown.mean(1, keepdim=True)}, names, signed=True)


def lines_with_errors(
    lines: dict[str, list[tuple[str, float, float]]], xlabel: str, ylabel: str, numeric: bool
) -> Figure:
    """A line per name through points (x, y, error of y); x numbers, or words side by side."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    words = list(dict.fromkeys(x for points in lines.values() for x, _, _ in points))
    places = {x: float(x) if numeric else float(words.index(x)) for x in words}
    for place, (name, points) in enumerate(lines.items()):
        shift = 0.0 if numeric else 0.08 * (place - (len(lines) - 1) / 2)
        x, y, errors = zip(*sorted((places[x] + shift, y, e) for x, y, e in points), strict=True)
        axis.errorbar(x, y, errors, fmt="o-" if numeric else "o", ms=4, capsize=3, label=name)
    low, high = min(places.values()), max(places.values())
    if numeric and low > 0 and high / low >= 8:
        axis.set_xscale("log")
    axis.set_xticks(list(places.values()), words)
    axis.minorticks_off()
    axis.set(xlabel=xlabel, ylabel=ylabel)
    if len(lines) > 1:
        axis.legend()
    return figure


def by_class(
    values: Tensor, labels: Tensor | None, name: str, line: float, names: Sequence[str] = ()
) -> Figure:
    """A histogram of values ``[N]``, and a box per class where there are classes."""
    figure = Figure(figsize=(10 if labels is not None else 5, 4), layout="constrained")
    axes = figure.subplots(1, 1 if labels is None else 2, squeeze=False)[0]
    numbers = values.double().cpu().clamp(-1, 2).numpy()  # what lies beyond is as bad
    axes[0].hist(numbers, 40)
    axes[0].axvline(line, color="black", lw=1, ls="--")
    axes[0].set(xlabel=name, ylabel="data")
    if labels is not None:
        classes = np.unique(labels.cpu().numpy())
        parts = [numbers[labels.cpu().numpy() == kind] for kind in classes]
        labelled = plain_text(names[k] if names else str(k) for k in classes)
        axes[1].boxplot(parts, tick_labels=labelled)
        axes[1].axhline(line, color="black", lw=1, ls="--")
        axes[1].set(xlabel="class", ylabel=name)
    return figure


def rank_histograms(ranks: Tensor, draws: int, names: tuple[str, ...]) -> Figure:
    """The ranks ``[N, M]`` of the first ten latents, -1 for none; dashed: uniform ranks."""
    count = min(10, ranks.shape[1])
    # with equally many ranks each
    bins = next((k for k in range(20, 4, -1) if (draws + 1) % k == 0), draws + 1)
    figure = Figure(figsize=(2.2 * count + 0.5, 2.4), layout="constrained")
    axes = figure.subplots(1, count, squeeze=False, sharey=True)[0]
    for k, axis in enumerate(axes):
        counted = ranks[ranks[:, k] >= 0, k]
        axis.hist(counted.numpy(), bins, range=(0, draws + 1))
        axis.axhline(len(counted) / bins, color="black", lw=1, ls="--")
        axis.set_title(names[k] if " " in names[k] else f"z {names[k]}", fontsize=8)
    axes[0].set_ylabel("simulations")
    return figure


def column_norms(norms: dict[str, Tensor]) -> Figure:
    """Column norms ``[K, M]`` of several guides, sorted: their medians and middle 95%."""
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axis = figure.subplots()
    width = 0.8 / len(norms)
    levels = torch.tensor([0.025, 0.5, 0.975], dtype=torch.float64)
    for place, (name, values) in enumerate(norms.items()):
        low, middle, high = values.double().quantile(levels, dim=0)
        at = torch.arange(1, len(middle) + 1) + width * (place - (len(norms) - 1) / 2)
        spread = torch.stack([middle - low, high - middle])
        axis.errorbar(at, middle, spread, fmt="o", ms=3, capsize=2, label=name)
    axis.set(xlabel="column, the largest first", ylabel="norm", ylim=(0, None))
    axis.legend()
    return figure
