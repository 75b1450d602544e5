"""The pages of the site are programs, and their claims are asserted in them."""

import ast
import re
import sys

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch

from tests.docs.doc_pages import ROOT, cells, run

PAGES = [ROOT / "docs/start.md", *sorted((ROOT / "docs").glob("theory/*.md"))]
PAGES += sorted((ROOT / "docs").glob("howto/*.md"))
NOTEBOOKS = [page for page in PAGES if cells(page)]


def name_of(page):
    return str(page.relative_to(ROOT / "docs"))


@pytest.mark.parametrize("page", NOTEBOOKS, ids=name_of)
def test_the_cells_of_a_page_run_and_what_they_claim_holds(page, capsys):
    torch.set_default_dtype(torch.float32)  # as a session of Python starts
    backend = matplotlib.get_backend()
    matplotlib.use("Agg")
    try:
        run(page)
    finally:
        plt.close("all")
        matplotlib.use(backend)
    assert capsys.readouterr().out


@pytest.mark.parametrize("page", NOTEBOOKS, ids=name_of)
def test_a_cell_shows_only_what_it_prints(page):
    """A notebook would show the value of a last expression, the address of an object, say."""
    for code in cells(page):
        last = ast.parse(code).body[-1]
        silent = ("print(", "torch.set_default_dtype(")
        assert not isinstance(last, ast.Expr) or ast.unparse(last).startswith(silent)


@pytest.mark.parametrize("page", NOTEBOOKS, ids=name_of)
def test_a_page_of_theory_asserts_after_it_claims(page):
    """Every section with a formula in a box has a check in the cell after it."""
    text = page.read_text()
    for boxed in re.finditer(r"\\boxed", text):
        rest = text[boxed.end() :]
        cell = re.search(r"```\{code-cell\}.*?\n```", rest, re.DOTALL)
        assert cell, f"{page.name}: nothing checks {rest[:60]}"
    assert "assert " in "".join(cells(page))


def test_the_model_of_the_page_is_a_model_of_the_command_line(tmp_path, monkeypatch):
    from experiments.train import Config, main

    code = cells(ROOT / "docs/howto/add_model.md")[0]
    (tmp_path / "factor_analysis.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    torch.set_default_dtype(torch.float32)
    try:
        metrics = main(
            Config(
                model="factor_analysis:FactorAnalysis",
                guide="exact",
                data="digits",
                epochs=1,
                out=tmp_path / "run",
                model_options={"latent_dim": 5},
            )
        )
    finally:
        sys.modules.pop("factor_analysis", None)
    assert metrics["test"]["log_evidence"] == pytest.approx(metrics["test"]["elbo"], abs=1e-3)
