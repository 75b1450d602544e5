"""What the documents say is what the code does."""

import re
from pathlib import Path

import pytest
import torch

from experiments.inference.objectives import OBJECTIVES
from guides import GUIDES, PAIRS

ROOT = Path(__file__).parents[1]


def test_the_table_of_pairs_is_the_one_in_code():
    rows = re.findall(
        r"^\| `(\w+)` \|(.*)\|$", (ROOT / "docs/guides.md").read_text(), re.MULTILINE
    )
    table = {guide: cells.split("|")[0].strip() for guide, cells in rows if guide in GUIDES}
    assert set(table) == set(GUIDES)
    for guide, models in table.items():
        expected = [model for model, guides in PAIRS.items() if guide in guides]
        assert re.findall(r"`(\w+)`", models) == expected


def test_every_objective_is_described():
    text = (ROOT / "docs/guides.md").read_text()
    for name in OBJECTIVES:
        assert f"`{name}`" in text


@pytest.mark.parametrize("document", ["README.md", "docs/guides.md"])
def test_python_in_the_documents_runs(document, monkeypatch):
    torch.set_default_dtype(torch.float32)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, document, "exec"), {})


def test_links_lead_somewhere():
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        prose = re.sub(r"```.*?```|`[^`]*`", "", document.read_text(), flags=re.DOTALL)
        for link in re.findall(r"\]\(([^)#:]+)\)", prose):
            assert (document.parent / link).exists(), f"{document.name}: {link}"
