"""Figures one after the other as one small GIF, and the steps at which they are taken."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from experiments.data import Data
from experiments.inference.fit import fit
from experiments.inference.svi import SVI
from experiments.runs.files import write

__all__ = ["picture", "save_gif", "taken", "training"]

COLOURS = 48
"""Of all frames together: enough for ten classes and greys, and half the size of 256."""


def picture(figure: Figure) -> Image.Image:
    """A figure as pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def save_gif(pictures: Sequence[Image.Image], path: Path, seconds: float, last: float) -> None:
    """Write pictures as a GIF that repeats for ever.

    Args:
        pictures: of one size; the last one's colours serve all.
        path: the file.
        seconds: that each is shown.
        last: seconds that the last one is shown.
    """
    palette = _palette(pictures[-1])
    small = [part.quantize(palette=palette, dither=Image.Dither.NONE) for part in pictures]
    times = [round(1000 * seconds)] * (len(small) - 1) + [round(1000 * last)]

    def save(file: Path) -> None:
        small[0].save(file, "GIF", save_all=True, append_images=small[1:], duration=times, loop=0)

    write(path, save)


def _palette(shown: Image.Image) -> Image.Image:
    """The colours of a picture; what is nearly white is white, or the page would be tinted."""
    chosen = shown.quantize(COLOURS, dither=Image.Dither.NONE)
    colours = np.array(chosen.getpalette()).reshape(-1, 3)
    colours[colours.min(1) > 240] = 255
    chosen.putpalette(colours.flatten().tolist())
    return chosen


def taken(steps: int, frames: int) -> list[int]:
    """At most so many of 1 ... ``steps``, ever farther apart: most happens early."""
    wanted = np.geomspace(1, steps, max(1, frames)).round().astype(int)
    return sorted({*wanted.tolist(), steps})


def training(
    svi: SVI, data: Data, epochs: int, batch_size: int, frames: int, seed: int,
    schedule: Callable[[float], float] | None = None,
) -> Iterator[int]:  # fmt: skip
    """Train a pair, stopping at the steps of the frames; the first one is step 0, untrained."""
    yield 0
    per_epoch = -(-len(data) // batch_size)
    wanted, done = set(taken(epochs * per_epoch, frames - 1)), 0

    def due() -> bool:
        nonlocal done
        done += 1
        return done in wanted

    progresses: Iterator[Any] = fit(svi, data, epochs, batch_size, schedule, seed, pause=due)
    for progress in progresses:
        if progress.steps in wanted:
            wanted.discard(progress.steps)  # the end of an epoch is yielded twice
            yield progress.steps
