"""Names of models and data sets, and headings made of them, as people write them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MODELS = {
    "pca": "PCA",
    "ppca": "PPCA",
    "bayesian_ppca": "Bayesian PPCA",
    "vae": "VAE",
    "nvae": "NVAE",
}
DATA = {
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "kmnist": "KMNIST",
    "omniglot": "Omniglot",
    "cifar10": "CIFAR-10",
    "celeba64": "CelebA 64",
    "folder": "a folder of images",
    "array": "an array",
    "simulated": "simulated data",
}
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def subject(model: str, data: str, guide: str | None = None) -> str:
    """The subject of a run: ``VAE on MNIST``, or ``VAE on MNIST, guide amortized``."""
    pair = f"{MODELS.get(model, model.rpartition(':')[2])} on {DATA.get(data, data)}"
    return f"{pair}, guide {guide}" if guide else pair


def names_of(directories: Sequence[Path]) -> list[str]:
    """Names of runs in one table: of their directories, or the whole paths if two are alike."""
    names = [path.name for path in directories]
    return names if all(names) and len({*names}) == len(names) else [*map(str, directories)]


def counted(count: int, noun: str) -> str:
    """``six guides``, ``one guide``, ``14 guides``."""
    word = NUMBERS[count] if count < len(NUMBERS) else str(count)
    return f"{word} {noun}{'' if count == 1 else 's'}"


def joined(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def unit(protocol: Mapping[str, Any] | None) -> str:
    """A datum: an image, or a row of numbers."""
    return "image" if protocol and len(protocol.get("shape") or ()) == 3 else "row"
