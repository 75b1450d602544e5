"""The page of an NVAE: samples for every temperature and group of latents, computed in advance."""

import base64
import io
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from experiments.evaluation.bounds import reconstruct
from experiments.evaluation.hierarchy import resampled_groups
from experiments.evaluation.sampling.samples import prior_means
from experiments.explorer.page import command_of, html_page
from experiments.explorer.views import chosen_rows
from experiments.inference.frozen import held_out
from experiments.reports.tiles import mosaic
from experiments.training.nvae.batch_norms import batch_norm_statistics, readjusted
from experiments.training.saved_run import SavedRun
from ppl_models.sites import describe

DRAWN, CHANGED = 40, 8
"""Number of images from the prior at each temperature, and of draws of each group of an image."""
SUBJECTS = 3
"""Number of test images whose groups are redrawn."""


def groups_page(saved: SavedRun, config: Any) -> tuple[str, dict[str, Any]]:
    """The page, and a summary of its contents."""
    test = saved.test.fixed()
    rows = chosen_rows(test.labels, len(test), SUBJECTS)
    temperatures: list[dict[str, Any]] = []
    for t in sorted(set(config.temperature)):
        with readjusted(saved.directory, saved.model, t, config.readjust):
            drawn = prior_means(saved.model, DRAWN, t, config.seed).reshape(-1, *test.image_shape)
        changed = [_changed(saved, row, t, config.seed) for row in rows]
        groups = [[png(images, 2 + CHANGED) for images in draws] for draws in changed]
        temperatures.append({"T": t, "prior": png(drawn, 10), "groups": groups})
    latents = describe(saved.model).latents
    names = [f"{name}, {' x '.join(map(str, shape))}" for name, shape in latents.items()]
    payload = {
        "temperatures": temperatures,
        "groups": names,
        "subjects": [f"test image #{row}" for row in rows],
        "changed": CHANGED,
        "drawn": DRAWN,
    }
    facts = {
        "groups": len(names),
        "temperature": [part["T"] for part in temperatures],
        "words": f", {len(names)} groups",
        "lighter": "give fewer --temperature",
    }
    texts = {
        "summary": _summary(saved, len(names)),
        "readjust": _readjusted(saved.model, config.readjust),
        "command": command_of(config),
    }
    return html_page("groups.html", f"The groups of {saved.directory.name}", texts, payload), facts


@torch.no_grad()
def _changed(saved: SavedRun, row: int, t: float, seed: int) -> list[Tensor]:
    """A test image, its reconstruction and draws of a group, for each group, coarse to fine."""
    few = saved.test.fixed().rows(max(2, row + 1))
    guide = held_out(saved.model, saved.guide, few)
    batch = few.batch(torch.tensor([row], device=few.pixels.device))
    whole = reconstruct(saved.model, guide, batch)
    drawn = resampled_groups(saved.model, guide, batch, CHANGED, seed, t)
    shown = (torch.cat([batch.only, whole, images]) for images in drawn.values())
    return [images.reshape(-1, *few.image_shape) for images in shown]


def png(images: Tensor, columns: int) -> str:
    """Images ``[n, C, H, W]`` side by side, dark on light if grey, as a PNG in a data URL."""
    image = mosaic(images, -(-len(images) // columns), columns)
    if len(image) == 1:
        image = 1 - image
    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).squeeze(-1)
    buffer = io.BytesIO()
    Image.fromarray(pixels.cpu().numpy()).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _summary(saved: SavedRun, groups: int) -> str:
    pair, test = saved.config["pair"], saved.test
    return (
        f"Model {pair['model']} with {groups} groups of latents, guide {pair['guide']}, data "
        f"{test.name}. Images are E[x | z], computed in advance."
    )


def _readjusted(model: Any, passes: int) -> str:
    if not batch_norm_statistics(model):
        return "The model has no batch norms."
    if not passes:
        return "Batch norms are as they were trained."
    return f"For draws of all groups batch norms were readjusted to T by {passes} passes."
