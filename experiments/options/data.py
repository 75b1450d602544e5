"""Options of the data. Nothing here imports torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from experiments.options.ranges import Count, NotNegativeInt, Range, Seed

RARE = "rarely needed"
"""Marks an option that only ``--help-all`` shows."""

Side = Annotated[NotNegativeInt, Range(lambda value: value <= 4096, "be at most 4096")]


@dataclass(frozen=True)
class DataOptions:
    group: ClassVar[str] = "data"

    data: str = "mnist"
    """Data set: digits (ships with scikit-learn), mnist, fashion_mnist, kmnist, omniglot, cifar10
    or celeba64 (downloaded once), folder (the images in --data-root), or a file of numbers
    (.npy, .npz or .csv)."""
    data_root: Path | None = None
    """Directory of the data; by default $PPL_DATA, else ./data."""
    rows: Count | None = None
    """Number of training rows to use, from the first; by default all."""
    pad: Annotated[Side, RARE] = 0
    """Zero-pad images to this side length, for example from 28 to 32."""
    binarize: Literal["none", "dynamic", "static"] = "none"
    """Draw binary pixels from grey values: at every visit (dynamic) or once (static)."""
    binarize_seed: Annotated[Seed, RARE] = 0
    """Seed of pixels that are drawn once: with --binarize static, and in every evaluation of data
    with --binarize dynamic or --dequantize. Recorded in the protocol."""
    dequantize: Annotated[bool, RARE] = False
    """Add uniform noise to grey values, for likelihoods on (0, 1)."""
    bits: Annotated[int, RARE] = 8
    """Bits per channel; lower-order bits are discarded."""
    flip: Annotated[bool, RARE] = False
    """Mirror each training image with probability 1/2 at every visit."""
    value_range: Annotated[tuple[float, float] | None, RARE] = None
    """Values of black and white in images with more than 8 bits (data folder); required for floats
    and 32-bit integers."""
    background: Annotated[str | None, RARE] = None
    """Colour behind transparent pixels (data folder): black (default), white or #rrggbb."""
    frames: Annotated[Literal["one", "first", "all"], RARE] = "one"
    """Frames or pages to read from each image file (data folder); one refuses files with
    several."""
    resize: Annotated[Side, RARE] = 0
    """Resize every image (data folder) to a square of this side length; 0 keeps the size."""
    given: Annotated[Literal["none", "labels"], RARE] = "none"
    """Pass the one-hot class of each row to a model of your own as batch.given["label"]."""
    label: Annotated[str | None, RARE] = None
    """Column of a CSV file that contains the classes; all other columns are data."""
