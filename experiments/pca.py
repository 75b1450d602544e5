"""How much of a digit survives in two numbers?

Lab 1: principal component analysis by an eigendecomposition in float64, with
encodings, reconstructions, and the squared error as components are added.

    python -m experiments pca --data mnist --latent-dim 2
    python -m experiments pca --data digits --latent-dim 10
    python -m experiments pca --data fashion_mnist --latent-dim 50 --out runs/pca
"""

from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.figure import Figure

from experiments.data import Data
from experiments.errors import UsageError
from experiments.evaluation.metrics import protocol
from experiments.options.common import DataOptions, FreshRunOptions
from experiments.options.ranges import Count, option_name
from experiments.reports import plots
from experiments.reports.page import finish
from experiments.reports.tables import figures_table
from experiments.reports.words.numbers import squared
from experiments.reports.words.titles import subject, unit
from experiments.runs.checkpoint import save_weights
from experiments.runs.cli import cli
from experiments.runs.metrics import Metrics
from experiments.runs.run import Run
from experiments.training.data import load_data
from experiments.training.pictures import as_images, draw_encodings
from ppl_models import PCA


@dataclass(frozen=True)
class Config(DataOptions, FreshRunOptions):
    latent_dim: Count = 2
    """M, the number of components."""


def main(config: Config) -> dict[str, Any]:
    check(config)
    with Run("pca", config) as run:
        splits = load_data(run)
        train, test = (data.fixed().observations().flatten(1) for data in splits)
        pca = PCA(train, config.latent_dim)
        run.save_config(model_options={"latent_dim": config.latent_dim})
        save_weights(run.path, pca)
        metrics = Metrics(
            "pca",
            None,
            config.data,
            protocol(splits[1].fixed(), pca, 1) | {"estimator": "exact"},
            seed=config.seed,
            parameters=pca.mean.numel() + pca.components.numel(),
        )
        for split, x in (("train", train), ("test", test)):
            error = pca.squared_error(x).double().mean().item()
            metrics.add(split, {"squared_error": error})
            run.say(f"{split:<5} squared error {error:.7g}")
        variance = (test - pca.mean).square().sum(1).double().mean().item()
        pictures(run, pca, splits, train, test)
        title = f"{subject('pca', config.data)}: {config.latent_dim} components"
        tables = {"Figures": figures_table(metrics.measured, unit(metrics.protocol))}
        found = (
            f"{config.latent_dim} components leave a squared error of {squared(error)} per test "
            f"{unit(metrics.protocol)}"
        )
        found += f": they explain {1 - error / variance:.1%} of the variance." if variance else "."
        return finish(run, metrics, title, [found], tables)


def check(config: Config) -> None:
    """Refuse options of the data that PCA would ignore."""
    for name in ("flip", "given"):
        if getattr(config, name) != getattr(Config, name):
            raise UsageError(f"{option_name(name)} has no effect on pca: leave it out.")


def pictures(
    run: Run, pca: PCA, splits: tuple[Data, Data], train: torch.Tensor, test: torch.Tensor
) -> None:
    """Encodings, reconstructions, components, and the error against their number."""
    draw_encodings(run, pca.encode(train), pca.encode(test), splits, "PCA encodings")
    run.figure("squared_error", error_curve(pca, test))
    if splits[1].are_images:
        shown = pca.decode(pca.encode(test[:10]))
        rows = {"x": as_images(test[:10], splits[1]), "PCA": as_images(shown, splits[1])}
        run.figure("reconstructions", plots.images_in_rows(rows, splits[1].label_names(10)))
        run.figure("components", plots.columns(pca.components, pca.mean, splits[1].image_shape))


def error_curve(pca: PCA, x: torch.Tensor) -> Figure:
    """The squared error of ``x`` against the number of components, up to M."""
    explained = pca.encode(x).square().mean(0)
    # counted from the last component: the variance minus what is explained would cancel
    beyond = explained.flip(0).cumsum(0).flip(0)[1:].tolist()
    last = pca.squared_error(x).mean().item()
    errors = [*(last + more for more in beyond), last]
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    axis.plot(range(1, len(errors) + 1), errors, "o-", ms=3)
    axis.set(xlabel="components M", ylabel="squared error per test datum")
    return figure


if __name__ == "__main__":
    cli(Config, main)
