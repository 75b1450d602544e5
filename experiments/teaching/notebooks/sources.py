"""Where the sources of the labs are: in a clone of the repository, or in an installed package."""

from collections.abc import Sequence
from pathlib import Path

from experiments.errors import UsageError

PACKAGE = Path(__file__).parents[1]
HOMES = (PACKAGE / "sources", PACKAGE.parents[1] / "docs" / "labs")
"""The first exists where the project was installed from a wheel, the second in a clone."""
SHEET = "exercises.md"


def find_labs(source: Path | None = None, numbers: Sequence[int] = ()) -> list[Path]:
    """The sources of labs, in order.

    Args:
        source: their folder; by default that of the project's own labs.
        numbers: of the labs that are wanted; by default all, and the exercise sheet.

    Raises:
        UsageError: If there are no labs or not these, or if a name does not fit.
    """
    folder = source or next((home for home in HOMES if home.is_dir()), HOMES[-1])
    labs: dict[int, Path] = {}
    for path in sorted(folder.glob("lab[0-9]*.md")):
        digits = path.stem.split("_")[0].removeprefix("lab")
        if not digits.isdecimal():
            raise UsageError(f"{path}: sources of labs are called lab1_NAME.md, ...")
        other = labs.setdefault(int(digits), path)
        if other != path:
            raise UsageError(f"{other} and {path} are both lab {int(digits)}: rename one.")
    if not labs:
        raise UsageError(
            f"there are no labs in {folder}: --source is a folder with lab1_NAME.md, ..."
        )
    for number in numbers:
        if number not in labs:
            known = ", ".join(map(str, labs))
            raise UsageError(f"there is no lab {number}; there are {known}.")
    if numbers:
        return [labs[number] for number in numbers]
    return [*labs.values(), *folder.glob(SHEET)]
