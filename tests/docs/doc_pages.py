"""The pages of the site that are notebooks, and their cells as plain Python."""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CELL = re.compile(r"^```\{code-cell\}[^\n]*\n((?::[^\n]*\n)*)(.*?)^```$", re.DOTALL | re.MULTILINE)


def cells(page: Path) -> list[str]:
    """The code of a page, cell by cell; of a page that is no notebook, none."""
    return [code for _, code in CELL.findall(page.read_text())]


def run(page: Path) -> dict[str, Any]:
    """Run all cells in one namespace, as the site's build does, and hand that out."""
    names: dict[str, Any] = {"__name__": "page"}
    for number, code in enumerate(cells(page), 1):
        exec(compile(code, f"{page.name}, cell {number}", "exec"), names)
    return names
