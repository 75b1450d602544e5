"""Many images as one picture on one axis: an axis for each would take long to lay out."""

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor
from torch.nn.functional import pad

MARGIN, TITLE, LETTER = 0.06, 0.28, 0.09
"""Around the images, for a line of titles, and for a letter of a row's name [inches]."""

READABLE = 9.0
"""Width up to which letters of the usual size can be read in a report [inches]."""


def plain_text(names: Iterable[str]) -> list[str]:
    """Names as matplotlib shows them literally: two dollars would be taken for a formula."""
    return [name.replace("$", r"\$") for name in names]


def images_in_rows(
    rows: dict[str, Tensor], titles: Sequence[str] | None = None, signed: bool = False
) -> Figure:
    """Named rows of images ``[n, C, H, W]``, one below the other, with titles above the columns.

    Where ``signed``, images are red above zero and blue below, each to its own scale.
    """
    shown = {
        name: [_colours(image, signed) for image in images.detach().double().cpu().numpy()]
        for name, images in rows.items()
    }
    count = max(map(len, shown.values()))
    names = list(titles or ())[:count]
    return _tiled(list(shown.values()), list(shown), names, column=0.85, space=0.12)


def grids(groups: dict[str, Tensor], side: int = 5, gap: int = 1) -> Figure:
    """Named square grids, side by side, of the first side^2 images of each ``[n, C, H, W]``.

    ``gap`` is the number of pixels of background between two images.
    """
    shown = [mosaic(images[: side * side], side, side, gap) for images in groups.values()]
    tiled = [_colours(image.detach().double().cpu().numpy()) for image in shown]
    return _tiled([tiled], [], list(groups), column=max(3.1, 0.45 * side), space=0.04)


def mosaic(images: Tensor, rows: int, columns: int, gap: int = 0) -> Tensor:
    """Images ``[n, C, H, W]`` row by row in one image; zeros between and after them."""
    tiles = images.new_zeros(rows * columns, *images.shape[1:])
    tiles[: len(images)] = images
    padded = pad(tiles, (0, gap, 0, gap)).unflatten(0, (rows, columns))
    whole = padded.permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2)
    return whole[:, : whole.shape[1] - gap, : whole.shape[2] - gap]


def _colours(image: np.ndarray, signed: bool = False) -> np.ndarray:
    """An image ``[C, H, W]`` as RGB ``[H, W, 3]``."""
    if signed:
        bound = max(float(np.abs(image).max()), 1e-12)
        return colormaps["RdBu_r"](image[0] / bound / 2 + 0.5)[..., :3]
    if len(image) == 1:
        return colormaps["gray_r"](image[0])[..., :3]
    return image.clip(0, 1).transpose(1, 2, 0)


def _enlarged(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """An image ``[h, w, 3]`` as ``[height, width, 3]``, by its nearest pixels."""
    rows, columns = (
        np.arange(n) * m // n for n, m in zip((height, width), image.shape, strict=False)
    )
    return image[rows[:, None], columns]


def _tiled(
    rows: Sequence[Sequence[np.ndarray]],
    names: Sequence[str],
    titles: Sequence[str],
    column: float,
    space: float,
) -> Figure:
    """Framed rows of images ``[H, W, 3]``, with names of rows and titles of columns.

    A column is ``column`` inches wide; the ``space`` between images is in widths of an image.
    """
    height, width = (max(image.shape[k] for images in rows for image in images) for k in (0, 1))
    gap = max(1, round(space * width))
    down, right = height + gap, width + gap
    canvas = np.ones((len(rows) * down - gap, max(map(len, rows)) * right - gap, 3))
    frames = []
    for y, images in enumerate(rows):
        for x, image in enumerate(images):
            top, left = y * down, x * right
            canvas[top : top + height, left : left + width] = _enlarged(image, height, width)
            frames.append(Rectangle((left - 0.5, top - 0.5), width, height))
    across, along = column / right * canvas.shape[1], column / right * canvas.shape[0]
    larger = max(1.0, across / READABLE)
    before = MARGIN + max((LETTER * larger * len(name) for name in names), default=0.0)
    wide, high = before + across + MARGIN, MARGIN + along + (TITLE * larger if titles else MARGIN)
    figure = Figure(figsize=(wide, high))
    axis = figure.add_axes((before / wide, MARGIN / high, across / wide, along / high))
    axis.imshow(canvas, aspect="auto")
    axis.add_collection(
        PatchCollection(frames, facecolor="none", edgecolor="black", clip_on=False)
    )
    axis.set_frame_on(False)
    axis.tick_params(length=0, labeltop=True, labelbottom=False, labelsize=10 * larger)
    axis.set_xticks([k * right + width / 2 - 0.5 for k in range(len(titles))], plain_text(titles))
    axis.set_yticks([k * down + height / 2 - 0.5 for k in range(len(names))], plain_text(names))
    return figure
