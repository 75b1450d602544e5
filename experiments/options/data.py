"""Options of the data. Nothing here imports torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["DataOptions"]


@dataclass(frozen=True)
class DataOptions:
    data: str = "mnist"
    """Data set: digits (ships with scikit-learn), mnist, fashion_mnist, kmnist, omniglot, cifar10
    or celeba64 (downloaded once), folder (the images in --data-root), or a file of numbers
    (.npy, .npz or .csv)."""
    data_root: Path | None = None
    """Where the files lie; by default $PPL_DATA, else ./data."""
    rows: int | None = None
    """Train on the first so many rows only."""
    pad: int = 0
    """Zero-pad images to this side (digits to 32, say)."""
    binarize: Literal["none", "dynamic", "static"] = "none"
    """Bernoulli pixels: drawn anew at every visit, or once."""
    binarize_seed: int = 0
    """Seed of static draws; recorded in the protocol."""
    dequantize: bool = False
    """Add uniform noise to grey bytes, for likelihoods inside (0, 1)."""
    bits: int = 8
    """Bits per channel; lower-order bits are discarded."""
    flip: bool = False
    """Mirror training images at every other visit."""
    value_range: tuple[float, float] | None = None
    """Values of black and white in a folder's images of more than 8 bits; needed for floats and
    32-bit integers."""
    background: str | None = None
    """Color behind transparent pixels of a folder's images (black, white, #rrggbb); by default
    black."""
    frames: Literal["one", "first", "all"] = "one"
    """Frames or pages read from each image file of a folder; one refuses files with several."""
    resize: int = 0
    """Resize every image of a folder to a square of this side (antialiased); 0 does not."""
    label: str | None = None
    """Column of a CSV file that holds classes; the others are the data."""
