"""One image file: its format, frames, orientation, and errors."""

import hashlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from experiments.data.downloads import import_torchvision
from experiments.data.files.image_modes import Frame, convert, loses_bits, one_channel
from experiments.data.rows import Reading
from experiments.errors import UsageError, reason

FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that Pillow may open; none of them starts another program."""

SUFFIXES = {
    *(".avif", ".bmp", ".dib", ".gif", ".webp"),
    *(".jfif", ".jpe", ".jpeg", ".jpg", ".mpo"),
    *(".j2c", ".j2k", ".jp2", ".jpc", ".jpf", ".jpx"),
    *(".apng", ".png"),
    *(".pbm", ".pfm", ".pgm", ".pnm", ".ppm"),
    *(".tif", ".tiff"),
}
"""Suffixes of files that must be images."""


class ImageFile(NamedTuple):
    """The frames of a file.

    Args:
        frames: the first frame, or all frames.
        number: number of frames in the file.
        narrowed: whether the lower 8 of 16 bits were discarded.
    """

    frames: list[Frame]
    number: int
    narrowed: bool

    @property
    def sha256(self) -> str:
        """Checksum of the pixels, shortened."""
        digest = hashlib.sha256()
        for frame in self.frames:
            digest.update(repr(frame.array.shape).encode() + frame.array.tobytes())
        return digest.hexdigest()[:16]


def read_file(path: Path, reading: Reading) -> ImageFile | None:
    """An image file as bytes; ``None`` for a file without suffix that is not an image.

    Raises:
        UsageError: If it has an image's suffix and cannot be read, or has several frames and
            ``--frames`` does not say what to do.
    """
    from PIL import Image, UnidentifiedImageError

    surely = path.suffix.lower() in SUFFIXES
    if surely and not path.is_file():
        raise UsageError(f"{path} is not a regular file; remove it.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about metadata and large images
            with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
                return _read(path, image, reading)
    except UsageError:
        raise
    except Exception as error:  # Pillow's decoders may raise any error
        if not surely and isinstance(error, (OSError, SyntaxError, ValueError)):
            return None
        words = reason(error)
        if isinstance(error, UnidentifiedImageError):
            words = f"no {', '.join(FORMATS)}" if path.stat().st_size else "it is empty"
        raise UsageError(f"{path} is damaged ({words}); repair or remove it.") from error


def _read(path: Path, image: Any, reading: Reading) -> ImageFile:
    number = getattr(image, "n_frames", 1)
    if number > 1 and reading.frames == "one":
        raise UsageError(
            f"{path} holds {number} frames or pages: read them with --frames all, or the first "
            "of each file with --frames first."
        )
    narrowed = False
    frames = []
    try:
        for position in range(number if reading.frames == "all" else 1):
            image.seek(position)
            rawmode = _rawmode(image)
            narrowed = narrowed or loses_bits(image, rawmode)
            frames.append(_frame(image, rawmode, reading))
    except UsageError as error:
        raise UsageError(f"{path}: {error}.") from None
    return ImageFile(frames, number, narrowed)


def _rawmode(image: Any) -> str:
    """Pillow's name for the pixel format of the file."""
    args = image.tile[0].args if image.tile else ""
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _frame(image: Any, rawmode: str, reading: Reading) -> Frame:
    from PIL import ImageOps

    tags = dict(getattr(image, "tag_v2", None) or {})
    upright = ImageOps.exif_transpose(image)
    upright.format = image.format
    frame = convert(upright, tags, rawmode, reading)
    if image.format == "GIF":  # Pillow returns later frames as RGB
        frame = frame._replace(array=one_channel(frame.array), palette=True)
    if reading.resize and not frame.unscaled:
        return frame._replace(array=_resized(frame.array, reading.resize))
    return frame


def _resized(array: np.ndarray, side: int) -> np.ndarray:
    """torchvision's resize, antialiased, to a square."""
    import_torchvision()
    from torchvision.transforms.v2.functional import resize

    image = torch.from_numpy(np.atleast_3d(array).copy()).permute(2, 0, 1)
    done = resize(image, [side, side], antialias=True).permute(1, 2, 0).numpy()
    return np.ascontiguousarray(done[..., 0] if array.ndim == 2 else done)


def walk(root: Path) -> Iterator[Path]:
    """Files below a directory, and hidden entries; each directory is read once, links included."""
    seen: set[tuple[int, int]] = set()
    pending = [root]
    while pending:
        folder = pending.pop()
        try:
            status = folder.stat()
            entries = sorted(folder.iterdir())
        except OSError as error:
            raise UsageError(f"{folder} cannot be read ({error.strerror}).") from error
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in entries:
            if not entry.is_dir() or entry.name.startswith("."):
                yield entry
            elif entry.is_symlink():
                pending.insert(0, entry)  # after all folders that are not links
            else:
                pending.append(entry)
