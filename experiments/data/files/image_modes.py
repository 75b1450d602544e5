"""Conversion of every mode of a Pillow image to grey or RGB bytes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from experiments.data.rows import Reading
from experiments.errors import UsageError

PHOTOMETRIC, BITS, SAMPLE_FORMAT = 262, 258, 339
"""Tags of a TIFF file."""


class Frame(NamedTuple):
    """One image as it was read.

    Args:
        array: bytes ``[H, W]`` or ``[H, W, 3]``.
        palette: whether colours come from a palette; grey ones may then be mixed with RGB images.
        blended: whether transparent pixels were composited on a background.
        limits: smallest and largest value, if an image has more than 8 bits per pixel.
        unscaled: whether the values need ``--value-range``; then the array is empty.
    """

    array: np.ndarray
    palette: bool = False
    blended: bool = False
    limits: tuple[float, float] | None = None
    unscaled: bool = False


def convert(image: Any, tags: dict[int, Any], rawmode: str, reading: Reading) -> Frame:
    """An image as bytes.

    Args:
        image: a loaded Pillow image, turned as its EXIF orientation says.
        tags: of a TIFF file; empty for others.
        rawmode: how the file holds its pixels.
        reading: range of values and background.

    Raises:
        UsageError: If its mode is not in the table, or values lie outside the given range.
    """
    if rawmode == "LA;16B":  # Pillow opens it as RGBA
        image = image.convert("LA")
    if image.mode not in CONVERSIONS:
        raise UsageError(f"mode {image.mode} is not supported")
    if image.mode == "L" and _first(tags, SAMPLE_FORMAT) == 2:
        return _ranged(np.asarray(image).view(np.int8), reading)
    return CONVERSIONS[image.mode](image, tags, reading)


def loses_bits(image: Any, rawmode: str) -> bool:
    """Whether Pillow keeps only the upper 8 of 16 bits per channel."""
    maxval = image.tile[0].args[1] if image.tile and _is_ppm(image) else 255
    deep = ";16" in rawmode and rawmode != "BGR;16"  # 16 bits for all channels
    wide = deep or (isinstance(maxval, int) and maxval > 255)
    return wide and not image.mode.startswith(("I", "F"))


def _is_ppm(image: Any) -> bool:
    return image.tile[0].codec_name.startswith("ppm") and isinstance(image.tile[0].args, tuple)


def _first(tags: dict[int, Any], tag: int) -> Any:
    value = tags.get(tag)
    return value[0] if isinstance(value, tuple) and value else value


def _opaque(image: Any, tags: dict[int, Any], reading: Reading) -> Frame:
    """Grey or colour without alpha, but perhaps with one transparent value."""
    kept = "L" if image.mode in ("1", "L") else "RGB"
    if "transparency" in image.info and image.mode in ("1", "L", "RGB"):
        return _alpha(image.convert(f"{kept}A"), tags, reading)
    return Frame(np.asarray(image.convert(kept)))


def _palette(image: Any, tags: dict[int, Any], reading: Reading) -> Frame:
    transparent = "transparency" in image.info or image.mode == "PA"
    frame = (
        _alpha(image.convert("RGBA"), tags, reading)
        if transparent or image.palette.mode == "RGBA"
        else Frame(np.asarray(image.convert("RGB")))
    )
    return frame._replace(array=one_channel(frame.array), palette=True)


def one_channel(array: np.ndarray) -> np.ndarray:
    """``[H, W, 3]`` as ``[H, W]`` if all three channels are equal."""
    agree = array.ndim == 3 and bool((array == array[..., :1]).all())
    return np.ascontiguousarray(array[..., 0]) if agree else array


def _alpha(image: Any, tags: dict[int, Any], reading: Reading) -> Frame:
    """Drop alpha if all pixels are opaque, else composite on the background."""
    from PIL import Image

    image = image.convert({"La": "LA", "RGBa": "RGBA", "PA": "RGBA"}.get(image.mode, image.mode))
    kept = "L" if image.mode == "LA" else "RGB"
    if image.getchannel("A").getextrema()[0] == 255:
        return Frame(np.asarray(image.convert(kept)))
    colour = background(reading)
    canvas = Image.new("RGBA", image.size, (*colour, 255))
    shown = Image.alpha_composite(canvas, image.convert("RGBA")).convert("RGB")
    array = np.asarray(shown)
    return Frame(one_channel(array) if kept == "L" else array, blended=True)


def background(reading: Reading) -> tuple[int, int, int]:
    """The colour behind transparent pixels."""
    from PIL import ImageColor

    try:
        return ImageColor.getrgb(reading.background or "black")[:3]
    except ValueError:
        raise UsageError(
            f"--background {reading.background} is not a colour: give a name or #rrggbb."
        ) from None


def _sixteen_bits(image: Any, tags: dict[int, Any], reading: Reading) -> Frame:
    """Unsigned 12-bit or 16-bit grey, scaled so that the largest possible value becomes 255."""
    top = 4095 if _first(tags, BITS) == 12 else 65535
    values = np.asarray(image).astype(np.int64)
    if _first(tags, PHOTOMETRIC) == 0:  # white is zero
        values = top - values
    limits = (float(values.min()), float(values.max()))
    frame = (
        Frame((values * 255 // top).astype(np.uint8), limits=limits)
        if reading.value_range is None
        else _ranged(values, reading)
    )
    hidden = values == image.info.get("transparency", -1)
    if not hidden.any():
        return frame
    shade = np.array(background(reading), np.uint8)
    array = np.where(hidden[..., None], shade, np.stack([frame.array] * 3, -1))
    return frame._replace(array=one_channel(array), blended=True)


def _integers(image: Any, tags: dict[int, Any], reading: Reading) -> Frame:
    if image.format == "PPM":  # Pillow scales it to 16 bits
        return _sixteen_bits(image, tags, reading)
    values = np.asarray(image)
    unsigned = _first(tags, BITS) == 32 and _first(tags, SAMPLE_FORMAT) in (None, 1)
    return _ranged(values.view(np.uint32) if unsigned else values, reading)


def _ranged(values: np.ndarray, reading: Reading) -> Frame:
    """Numbers without a natural range, scaled from ``--value-range`` and never clipped."""
    if not np.isfinite(values).all():
        raise UsageError("it holds NaN or infinite values")
    limits = (float(values.min()), float(values.max()))
    if reading.value_range is None:
        return Frame(np.zeros((0, 0), np.uint8), limits=limits, unscaled=True)
    low, high = reading.value_range
    if limits[0] < low or limits[1] > high:
        raise UsageError(
            f"it holds values from {limits[0]:g} to {limits[1]:g}, outside of --value-range "
            f"{low:g} {high:g}"
        )
    scaled = (values.astype(np.float64) - low) / (high - low)
    return Frame((255 * scaled).round().astype(np.uint8), limits=limits)


CONVERSIONS: dict[str, Callable[[Any, dict[int, Any], Reading], Frame]] = {
    **dict.fromkeys(("1", "L", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"), _opaque),
    **dict.fromkeys(("P", "PA"), _palette),
    **dict.fromkeys(("LA", "La", "RGBA", "RGBa"), _alpha),
    **dict.fromkeys(("I;16", "I;16L", "I;16B", "I;16N"), _sixteen_bits),
    "I": _integers,
    "F": lambda image, tags, reading: _ranged(np.asarray(image), reading),
}
"""Conversions by Pillow's mode; the page on data documents them."""
