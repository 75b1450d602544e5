"""What the documents say is what the code does."""

import importlib
import re
import sys
from pathlib import Path

import pytest
import torch

from experiments.inference.objectives import OBJECTIVES
from guides import GUIDES, PAIRS

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
FENCED = re.compile(r"^(`{3,}|:{3,}).*?^\1", re.DOTALL | re.MULTILINE)


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


def test_python_in_the_guides_page_runs():
    torch.set_default_dtype(torch.float32)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/guides.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "docs/guides.md", "exec"), {})


def slug(heading: str) -> str:
    """The anchor of a heading, as MyST and code hosts make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def test_links_lead_somewhere():
    for document in DOCUMENTS:
        prose = re.sub(r"`[^`\n]*`", "", FENCED.sub("", document.read_text()))
        for link in re.findall(r"\]\(([^)\s]+)\)", prose):
            if re.match(r"\w+:", link):
                continue
            path, _, anchor = link.partition("#")
            target = document.parent / path if path else document
            assert target.exists(), f"{document.name}: {link}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", FENCED.sub("", target.read_text()), re.M)
                found = {re.sub(r"-+", "-", slug(heading)) for heading in headings}
                assert re.sub(r"-+", "-", anchor) in found, f"{document.name}: {link}"


def test_numbers_at_a_glance_are_those_of_the_pages():
    """Every figure of the README's table stands on the page that its row links to."""
    text = (ROOT / "README.md").read_text()
    table = text.split("## Results at a glance")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.*?) \| (.*?) \| \[.*?\]\(([^)#]+).*?\) \|$", table, re.M)
    assert len(rows) >= 5
    for _, figures, page in rows:
        there = (ROOT / page).read_text()
        for number in re.findall(r"\d+\.\d+(?! M)", figures):
            assert number in there, f"{number} is not in {page}"


def pages_of(document: Path) -> list[Path]:
    """What the toctrees of a page name."""
    entries: list[Path] = []
    for block in re.findall(r"^```\{toctree\}\n(.*?)^```", document.read_text(), re.S | re.M):
        for line in block.splitlines():
            if not line or line.startswith(":"):
                continue
            if "*" in line:
                entries += sorted(document.parent.glob(f"{line}.md"))
            else:
                entries.append(document.parent / f"{line}.md")
    return entries


def test_every_page_is_in_the_menu():
    reached, to_do = set(), [ROOT / "docs/index.md"]
    while to_do:
        page = to_do.pop()
        assert page.exists(), page
        if page not in reached:
            reached.add(page)
            to_do += pages_of(page)
    assert {*ROOT.glob("docs/**/*.md")} - reached == set()


def test_every_module_is_in_the_reference_once():
    text = "\n".join(page.read_text() for page in ROOT.glob("docs/api/*.md"))
    patterns = " ".join(re.findall(r"^% modules: (.*)$", text, re.M)).split()
    listed = [path for pattern in patterns for path in ROOT.glob(pattern)]
    assert len(listed) == len(set(listed))
    packages = ("ppl_models", "guides", "experiments")
    assert set(listed) == {path for package in packages for path in (ROOT / package).rglob("*.py")}


def test_what_a_built_site_may_not_do_is_found(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    check_site = importlib.import_module("check_site")
    good = (
        '<html><head><link rel="stylesheet" href="a.css"><script src="a.js"></script></head>'
        '<body id="top"><a href="https://pyro.ai">Pyro</a><a href="#top">up</a></body></html>'
    )
    (tmp_path / "index.html").write_text(good)
    (tmp_path / "a.css").write_text("b { background: url(data:image/png;base64,AA) }")
    (tmp_path / "a.js").write_text('const home = "https://example.org";')
    assert check_site.problems(tmp_path) == []
    for damage in (
        '<script src="https://cdn.example.org/x.js"></script>',
        '<link rel="stylesheet" href="//fonts.example.org/x.css">',
        '<img src="http://example.org/x.png">',
        "<style>@import 'https://example.org/x.css';</style>",
        '<script>fetch("https://example.org/x")</script>',
        '<a href="missing.html">x</a>',
        '<a href="#nowhere">x</a>',
    ):
        (tmp_path / "index.html").write_text(good.replace("</body>", damage + "</body>"))
        assert len(check_site.problems(tmp_path)) == 1, damage
    (tmp_path / "a.css").write_text("@font-face { src: url(https://example.org/f.woff2) }")
    assert len(check_site.problems(tmp_path)) == 2
    monkeypatch.setattr(sys, "argv", ["check_site.py", str(tmp_path / "empty")])
    assert check_site.main() == 2
    assert "make docs" in capsys.readouterr().err


def test_a_page_of_a_lab_shows_stubs_and_folds_or_leaves_out_solutions():
    from experiments.teaching.notebooks.myst import read_myst
    from experiments.teaching.notebooks.pages import lab_page
    from experiments.teaching.notebooks.sources import find_labs

    for source in find_labs():
        text = source.read_text(encoding="utf-8")
        cells = [c for c in read_myst(text).cells if c.cell_type == "code"]
        tasks = [c.source for c in cells if "BEGIN SOLUTION" in c.source]
        for student in (False, True):
            page = lab_page(text, source.stem, student)
            assert "BEGIN SOLUTION" not in page
            assert page.count("raise NotImplementedError") == sum(
                task.count("BEGIN SOLUTION") for task in tasks
            )
            assert page.count("code_prompt_show: Solution") == (0 if student else len(tasks))
            assert page.count(":tags: [remove-cell]") >= len(tasks) * student
            assert ("<details>" in page) is (not student and "<details>" in text)
            own = sum("teacher" in cell.metadata.tags for cell in cells) if student else 0
            assert page.count("```{code-cell}") == len(cells) - own


def test_a_build_that_fails_leaves_the_old_site(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    build = importlib.import_module("build_site")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.html").write_text("old")

    def sphinx(new, doctrees, student, page="<p>new</p>", code=0):
        new.mkdir(parents=True)
        (new / "index.html").write_text(page)
        return code

    def interrupted(*_):
        raise KeyboardInterrupt

    outside = '<img src="http://example.org/x.png">'
    monkeypatch.setattr(build, "sphinx", lambda *words: sphinx(*words, code=2))
    assert build.main([], tmp_path) == 1
    monkeypatch.setattr(build, "sphinx", lambda *words: sphinx(*words, page=outside))
    assert build.main([], tmp_path) == 1
    monkeypatch.setattr(build, "sphinx", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build.main([], tmp_path)
    assert (tmp_path / "docs/index.html").read_text() == "old"
    monkeypatch.setattr(build, "sphinx", sphinx)
    assert build.main([], tmp_path) == 0
    assert build.main(["--student"], tmp_path) == 0
    assert (tmp_path / "docs/index.html").read_text() == "<p>new</p>"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "docs",
        "docs-seconds.json",
        "docs-student",
        "docs-student-seconds.json",
    ]
    assert "The last build took" in build.forecast(tmp_path, "docs")
    assert "minutes on two cores" in capsys.readouterr().out
