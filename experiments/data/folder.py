"""A directory of images."""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.data.rows import Read, Reading, Rows, as_images, held_out
from experiments.errors import UsageError

__all__ = ["folder"]


def _eight_bits(image: Any) -> Any:
    """An image as 8-bit grey or RGB; 16-bit grey levels are divided by 257."""
    from PIL import Image

    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).astype(np.int64) // 257).astype(np.uint8))
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def folder(root: Path, reading: Reading) -> Read:
    from PIL import Image, UnidentifiedImageError

    if not root.is_dir():
        raise UsageError(f"--data-root {root} is not a directory of images.")
    images, first = [], None
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        try:
            with path.open("rb") as file, Image.open(file) as opened:
                image = _eight_bits(opened)
        except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
            if path.suffix.lower() not in Image.registered_extensions():
                continue
            raise UsageError(f"{path} is a damaged image ({error}); mend or remove it.") from error
        kind = (image.size, image.mode)
        first = first or (kind, path)
        if kind != first[0]:
            raise UsageError(
                f"images must have one size and mode: {first[1]} is {first[0]}, {path} is {kind}."
            )
        images.append(np.asarray(image))
    if len(images) < 4:
        raise UsageError(f"{root} holds {len(images)} images; at least 4 are needed.")
    pixels, test = as_images(np.stack(images)), held_out(len(images))
    return Read(Rows(pixels[~test], None, 255), Rows(pixels[test], None, 255))
