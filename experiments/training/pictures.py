"""The lab's pictures of a trained pair."""

import math

import torch
from torch import Tensor, nn

from experiments.data import Data
from experiments.evaluation.bounds import encode, reconstruct
from experiments.evaluation.sampling.samples import is_plane, latent_grid, prior_means
from experiments.reports import plots
from experiments.runs.run import Run
from guides import Guide
from guides.local import PerDatumGuide
from ppl_models.ppca import PPCA
from ppl_models.random_numbers import seeded
from ppl_models.sites import describe

TEMPERATURES = (0.25, 0.5, 0.75, 1.0, 1.5)


def as_images(x: Tensor, data: Data) -> Tensor:
    """Observations as ``[n, C, H, W]``."""
    return x.reshape(-1, *data.image_shape)


def _encodings(model: nn.Module, guide: Guide, data: Data, count: int) -> Tensor | None:
    """Means of q(z | x), ``[count, M]``; None if all latents are summed out."""
    if not describe(model).latents:
        return None
    few = data if isinstance(guide, PerDatumGuide) else data.rows(min(count, len(data)))
    parts = [encode(guide, batch, model) for batch in few.batches(1000)]
    first = [next(iter(part.values())) for part in parts]
    return torch.cat([z.reshape(len(z), -1) for z in first])[:count]


def draw_encodings(
    run: Run, z_train: Tensor, z_test: Tensor, splits: tuple[Data, Data], title: str
) -> None:
    """Encodings ``[N, M]`` of train and test rows, by class; along two directions if M > 2."""
    z_train, directions = plots.two_directions(z_train)
    z_test, _ = plots.two_directions(z_test, directions)
    labels, classes = [data.labels for data in splits], splits[0].source.classes
    run.figure("encodings", plots.encodings(z_train, z_test, labels, title, classes))


def samples(model: nn.Module, data: Data) -> dict[str, Tensor]:
    """25 images per temperature; plain draws where the prior takes no temperature."""
    try:
        return {f"T = {t:g}": as_images(prior_means(model, 25, t), data) for t in TEMPERATURES}
    except ValueError:
        return {"T = 1": as_images(prior_means(model, 25), data)}


def loss_picture(run: Run, name: str) -> None:
    """The loss of every step and epoch, if there was any."""
    if run.losses:
        records = run.records
        means = [math.nan if record["loss"] is None else record["loss"] for record in records]
        run.figure("loss", plots.loss_curve(run.losses, records[0]["steps"], name, means))


def lab_pictures(
    run: Run, model: nn.Module, guides: tuple[Guide, Guide], train: Data, test: Data, loss: str
) -> None:
    """Loss, encodings, reconstructions, samples at temperatures, and the columns of W."""
    loss_picture(run, loss)
    with seeded(0):
        parts = zip(guides, (train, test), strict=True)
        z_train, z_test = (_encodings(model, guide, data, 10000) for guide, data in parts)
        first = next(iter(test.batches(10)))
        try:
            shown = reconstruct(model, guides[1], first) if test.are_images else None
        except ValueError as error:
            shown = None
            run.warn(f"there is no figure of reconstructions: {error}")
    if z_train is not None and z_test is not None:
        more = ", two leading directions" if z_train.shape[1] > 2 else ""
        draw_encodings(run, z_train, z_test, (train, test), f"means of q(z | x){more}")
    if not test.are_images:
        return
    if shown is not None:
        rows = {"x": as_images(first.only, test), "E[x | z]": as_images(shown, test)}
        run.figure("reconstructions", plots.images_in_rows(rows, test.label_names(10)))
    try:
        drawn = samples(model, test)
    except ValueError as error:
        run.warn(f"there is no figure of samples: {error}")
    else:
        run.figure("samples", plots.grids(drawn))
    if is_plane(model):
        grid = {"the latent plane, at quantiles of the prior": as_images(latent_grid(model), test)}
        run.figure("latent_grid", plots.grids(grid, 15, gap=0))
    if isinstance(model, PPCA):
        run.figure(
            "columns_of_W", plots.columns(model.W.detach(), model.mu.detach(), test.image_shape)
        )
