"""Small GIFs of figures, and the training steps that they show."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from experiments.data import Data
from experiments.inference.fit import fit
from experiments.inference.objectives import AnalyticKL
from experiments.inference.optim import adam, cosine
from experiments.inference.svi import SVI
from experiments.runs.files import write
from guides import Amortized
from ppl_models import VAE

DIGITS = (
    "#332288",
    "#88ccee",
    "#44aa99",
    "#117733",
    "#999933",
    "#ddcc77",
    "#cc6677",
    "#882255",
    "#aa4499",
    "#555555",
)
"""Ten colours for colour-blind readers: Tol's "muted", with dark grey instead of pale grey."""


def _palette() -> Image.Image:
    """An image whose palette every GIF uses: greys, ``DIGITS``, line colours, and lighter ones."""
    greys = np.linspace(0, 255, 24)[:, None].repeat(3, 1)
    lines = [f"C{k}" for k in range(10)]
    inks = 255 * np.array([to_rgb(colour) for colour in (*DIGITS, *lines)])
    colours = np.concatenate([greys, inks, (inks + 255) / 2]).round()
    image = Image.new("P", (1, 1))
    image.putpalette(colours.astype(np.uint8).flatten().tolist())
    return image


def picture(figure: Figure) -> Image.Image:
    """A figure as pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def save_gif(pictures: Sequence[Image.Image], path: Path, seconds: float, last: float) -> None:
    """Write pictures of one size as an endless GIF: ``seconds`` for each, ``last`` for the last.

    Every colour becomes the nearest of ``DIGITS``, matplotlib's C0 to C9, lighter versions of
    these, and 24 greys.
    """
    palette = _palette()
    small = [shown.quantize(palette=palette, dither=Image.Dither.NONE) for shown in pictures]
    times = [round(1000 * seconds)] * (len(small) - 1) + [round(1000 * last)]

    def save(file: Path) -> None:
        small[0].save(file, "GIF", save_all=True, append_images=small[1:], duration=times, loop=0)

    write(path, save, parents=True)


def taken(steps: int, frames: int) -> list[int]:
    """A selection of 1 ... ``steps``, denser at the start, where most changes happen."""
    wanted = np.geomspace(1, steps, max(1, min(frames, steps))).round().astype(int)
    return sorted({*wanted.tolist(), steps})


def training(
    svi: SVI,
    data: Data,
    epochs: int,
    batch_size: int,
    frames: int,
    seed: int,
    schedule: Callable[[float], float] | None = None,
) -> Iterator[int]:
    """Train a pair, stopping at the steps of the frames; the first one is step 0, untrained."""
    yield 0
    per_epoch = -(-len(data) // batch_size)
    wanted, steps = set(taken(epochs * per_epoch, frames - 1)), itertools.count(1)
    progresses = fit(
        svi, data, epochs, batch_size, schedule, seed, pause=lambda: next(steps) in wanted
    )
    for progress in progresses:
        if progress.steps in wanted:
            wanted.discard(progress.steps)  # the end of an epoch is yielded twice
            yield progress.steps


def lab_training(config: Any, model: VAE, guide: Amortized, data: Data) -> Iterator[int]:
    """``training`` with the optimiser, the schedule and the objective of the lab's VAE."""
    svi = SVI(model, guide, adam(model, guide, 0.01), AnalyticKL())
    size, schedule = config.batch_size, cosine(0.05)
    return training(svi, data, config.epochs, size, config.frames, config.seed, schedule)
