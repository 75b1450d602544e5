"""The evaluation of a run with global latents: the bound of the whole training set."""

from typing import Any

import torch

from experiments.data import Data
from experiments.evaluation.bayesian.whole_data import DRAWS, whole_bound
from experiments.evaluation.metrics import protocol
from experiments.inference.svi import SVI
from experiments.reports.page import finish
from experiments.reports.tables import figures_table
from experiments.reports.words.titles import subject
from experiments.runs.metrics import Metrics
from experiments.runs.run import Run
from experiments.training.pictures import loss_picture


def conclude_whole(run: Run, svi: SVI, train: Data, metrics: Metrics) -> dict[str, Any]:
    """Evaluate the whole training set, and write metrics and the report.

    Test rows are not measured: their density given the training set needs its latents integrated
    out, which a bound does not do.
    """
    model, guide, config = svi.model.eval(), svi.guide.eval(), run.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        value, error = whole_bound(model, guide, train, DRAWS, config.memory)
    name = "log_joint" if metrics.objective == "log_joint" else "elbo"
    how = {"estimator": "whole_data", "particles": DRAWS}
    metrics.protocol = protocol(train, guide, None) | how
    metrics.add("train", {name: value, f"{name}_se": error})
    run.say(
        f"train {name} {value:.4f} ± {error:.4f} ({DRAWS} draws)  [nats per data point of the "
        "whole set]"
    )
    run.save_metrics(metrics)
    loss_picture(run, str(metrics.objective))
    found = (
        f"The {name} of the whole training set, divided by its rows, is {value:.4f} ± {error:.4f} "
        "nats per data point. The latents are global, so the error is that of the draws, and no "
        "test rows are measured."
    )
    tables = {"Figures": figures_table(metrics.measured, "data point", "draws of q")}
    title = subject(metrics.model, metrics.data, str(metrics.guide))
    return finish(run, metrics, title, [found], tables)
