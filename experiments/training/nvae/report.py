"""What is measured and shown of a trained NVAE."""

from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments.data import Data
from experiments.evaluation.bounds import reconstruct, rows_at_a_time
from experiments.evaluation.hierarchy import channel_kls, group_rows, resampled_groups
from experiments.evaluation.metrics import measure, protocol, summary
from experiments.evaluation.sampling.samples import interpolations, prior_means
from experiments.inference.objectives.regularisers import convolutions
from experiments.inference.svi import Pair
from experiments.reports import plots
from experiments.reports.page import finish_pair
from experiments.reports.tables import Table
from experiments.runs.metrics import Metrics, save_values
from experiments.runs.run import Run
from experiments.training.nvae.batch_norms import readjusted
from experiments.training.pictures import loss_picture
from guides import Guide
from guides.local import PerDatumGuide
from ppl_models.random_numbers import seeded

TEMPERATURES = (0.6, 0.7, 0.8, 0.9, 1.0)
TRAIN_ROWS = 5000
"""Number of training images that are evaluated: all of them would take as long as an epoch."""
GROUP_ROWS = 1000
"""Test images that the KL of every group is averaged over."""


def conclude_nvae(
    run: Run, pair: Pair, train: Data, test: Data, epochs: int = 0
) -> dict[str, Any]:
    """Evaluate, write metrics, pictures and the report.

    The bound on test images is that of ``--evaluate`` importance samples; of the training images
    the first ones are evaluated, with one sample. ``epochs`` are those of weights that the run
    has not trained.
    """
    config, model = run.config, pair.model
    train, test = train.fixed().like(model), test.fixed().like(model)
    few = (
        (train, test)
        if isinstance(pair.guide, PerDatumGuide)
        else (train.rows(min(TRAIN_ROWS, len(train))), test.rows(min(GROUP_ROWS, len(test))))
    )
    metrics = Metrics(
        "nvae",
        run.content["pair"]["guide"],
        test.name,
        protocol(test, pair.guide, config.evaluate),
        config.objective,
        config.seed,
        len(run.lines) or epochs,
        pair.number_of_parameters,
        more={
            "preset": config.preset,
            "convolutions": len(list(convolutions(pair))),
            "skipped_steps": [record.get("skipped", 0) for record in run.records],
        },
    )
    for data, particles in ((few[0], 1), (test, config.evaluate)):
        measured = measure(model, pair.guide, data, config.seed, particles, config.memory)
        figures = summary(measured.values, pair.guide, particles)
        metrics.add(data.split, {"n": len(data), **figures})
    save_values(run.path, measured.values)
    pair.eval()
    rows = rows_at_a_time(model, few[1], config.memory, 100)
    kls = channel_kls(model, measured.guide, few[1], rows)
    metrics.more["groups"] = group_rows(kls, model.latent_shapes)
    run.save_metrics(metrics)
    pictures(run, model, measured.guide, test, kls)
    return finish(run, metrics)


def finish(run: Run, metrics: Metrics) -> dict[str, Any]:
    """The report, and a last line about the groups."""
    groups = metrics.more["groups"]
    counted = [row for row in groups if row["active channels"] is not None]
    kls = ", ".join(f"{row['kl']:.1f}" for row in groups)
    active = sum(row["active channels"] for row in counted)
    of = sum(row["shape"][0] for row in counted)
    channels = f"{active} active channels of {of}; " if counted else ""
    run.say(
        f"KL per group [nats]: {kls}; {channels}{sum(metrics.more['skipped_steps'])} steps skipped"
    )
    table = Table(groups, {"kl": "KL(q || p) of the group [nats per image]"})
    return finish_pair(run, metrics, {"Groups of latents": table})


def visible(images: Tensor, model: Any) -> Tensor:
    """Images without the border that a likelihood does not count."""
    crop = model.crop if model.data_shape[0] == 1 else 0
    return images[..., crop:-crop, crop:-crop] if crop else images


def pictures(run: Run, model: Any, guide: Guide, test: Data, kls: list[Tensor]) -> None:
    """Loss, KL per group, reconstructions, samples, interpolations, what each group changes."""
    loss_picture(run, run.config.objective)
    names, values = [f"z{i}" for i in range(len(kls))], [float(kl.sum()) for kl in kls]
    run.figure("groups_kl", plots.bars(names, values, "KL [nats]"))
    with seeded(0):
        first = next(iter(test.batches(10)))
        shown = reconstruct(model, guide, first)
    rows = {"x": visible(first.only, model), "E[x | z]": visible(shown, model)}
    run.figure("reconstructions", plots.images_in_rows(rows, test.label_names(10)))
    drawn = {}
    for t in TEMPERATURES:
        with readjusted(run.path, model, t, run.config.readjust):
            drawn[f"T = {t:g}"] = visible(prior_means(model, 25, t), model)
    run.figure("samples", plots.grids(drawn))
    ways = interpolations(model, guide, test, (0, 1), 10)
    run.figure(
        "interpolation",
        plots.images_in_rows({name: visible(images, model) for name, images in ways.items()}),
    )
    if not isinstance(guide, PerDatumGuide):
        run.figure("groups", groups_figure(model, guide, test))


def groups_figure(model: Any, guide: Guide, test: Data) -> Figure:
    """The first test image reconstructed, and draws of its groups from every level down."""
    draws = 8
    batch = next(iter(test.batches(1)))
    whole = reconstruct(model, guide, batch)
    changed = resampled_groups(model, guide, batch, draws)
    rows = {
        f"from {name} {tuple(shape)}": visible(torch.cat([whole, images]), model)
        for (name, images), shape in zip(changed.items(), model.latent_shapes, strict=True)
    }
    return plots.images_in_rows(rows, ["all kept", *["drawn"] * draws])
