"""Names of data sets, for options and their checks. Nothing here imports torch."""

from pathlib import Path

from experiments.errors import UsageError, listed

DATA_SETS = (
    "digits",
    "mnist",
    "fashion_mnist",
    "kmnist",
    "omniglot",
    "cifar10",
    "celeba64",
    "folder",
)
ARRAY_FILES = (".npy", ".npz", ".csv")


def is_array_file(name: str) -> bool:
    """Whether a name is a file of numbers."""
    return Path(name).suffix.lower() in ARRAY_FILES


def check_name(name: str) -> None:
    """Refuse a name that is neither a data set nor a file of numbers."""
    if name in DATA_SETS or is_array_file(name):
        return
    if Path(name).is_dir():
        raise UsageError(f"--data {name} is a directory: use --data folder --data-root {name}.")
    if Path(name).is_file():
        raise UsageError(f"--data {name}: files of numbers are {', '.join(ARRAY_FILES)}.")
    raise UsageError(
        f"data set '{name}' is unknown; {listed(name, DATA_SETS)}, and files "
        f"({', '.join(ARRAY_FILES)})."
    )
