"""Options of the data. Nothing here imports torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from experiments.options.ranges import Count, NotNegativeInt, Range, Seed

__all__ = ["RARE", "DataOptions"]

RARE = "rarely needed"
"""Marks an option that ``--help`` leaves to ``--help-all``."""

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
    """Train on the first rows only, this many."""
    pad: Annotated[Side, RARE] = 0
    """Zero-pad images to this side (28 to 32, say)."""
    binarize: Literal["none", "dynamic", "static"] = "none"
    """Draw binary pixels from the grey ones: at every visit, or once."""
    binarize_seed: Annotated[Seed, RARE] = 0
    """Seed of static draws; recorded in the protocol."""
    dequantize: Annotated[bool, RARE] = False
    """Add uniform noise to grey bytes, for likelihoods inside (0, 1)."""
    bits: Annotated[int, RARE] = 8
    """Bits per channel; lower-order bits are discarded."""
    flip: Annotated[bool, RARE] = False
    """Mirror each training image at every other visit."""
    value_range: Annotated[tuple[float, float] | None, RARE] = None
    """Values of black and white in a folder's images of more than 8 bits; needed for floats and
    32-bit integers."""
    background: Annotated[str | None, RARE] = None
    """Color behind transparent pixels of a folder's images (black, white, #rrggbb); by default
    black."""
    frames: Annotated[Literal["one", "first", "all"], RARE] = "one"
    """Frames or pages read from each image file of a folder; one refuses files with several."""
    resize: Annotated[Side, RARE] = 0
    """Resize every image of a folder to a square of this side (antialiased); 0 keeps its size."""
    given: Annotated[Literal["none", "labels"], RARE] = "none"
    """Give the model the class of each row, one-hot, as batch.given["label"]; for a model of your
    own."""
    label: Annotated[str | None, RARE] = None
    """Column of a CSV file that holds classes; the others are the data."""
