"""Where a notebook installs the project from: the repository, once it has an address."""

from importlib.metadata import PackageNotFoundError, metadata
from typing import Any

UNKNOWN = 'PROJECT = "."'


def repository() -> str:
    """The version of this project in its repository, as pip takes it; nothing without an address.

    The address is the entry ``Repository`` of the package's URLs.
    """
    try:
        about = metadata("ppl-models")
    except PackageNotFoundError:
        return ""
    for line in about.get_all("Project-URL") or ():
        name, _, address = line.partition(", ")
        if name.lower() == "repository":
            return f"git+{address}@v{about['Version']}"
    return ""


def pin(notebook: Any, address: str) -> None:
    """Let the first cell of a notebook install from there, without a change by hand."""
    for cell in notebook.cells:
        if address and cell.cell_type == "code" and UNKNOWN in cell.source:
            start, _, rest = cell.source.partition(UNKNOWN)
            cell.source = f'{start}PROJECT = "{address}"\n{rest.partition(chr(10))[2]}'
