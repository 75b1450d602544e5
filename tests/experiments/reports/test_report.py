"""The page of a run: everything inside it, nothing that it shows can act."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments import ppca
from experiments.reports import plots
from experiments.reports.formulas import KNOWN, formulas, mathml, story
from experiments.reports.page import page_of
from experiments.reports.tables import Table
from tests.shared.commands import SHORT, run

EVIL = '<script>alert("x")</script>&\'<img src=x onerror=alert(1)>'


class Tags(HTMLParser):
    """The tags of a page, with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_what_it_shows_is_escaped(tmp_path):
    picture = tmp_path / f"{EVIL.replace('/', '')}.png"
    picture.write_bytes(b"no picture")
    tables = {EVIL: Table([{EVIL: EVIL, "b": 1.0}], {EVIL: EVIL}, EVIL, [{EVIL: EVIL}])}
    tags = Tags(page_of(EVIL, [EVIL], tables, [EVIL], [picture], {}, tables, EVIL, EVIL))
    names = [tag for tag, _ in tags.tags]
    assert "script" not in names
    assert names.count("img") == 1
    assert not [name for _, given in tags.tags for name in given if name.startswith("on")]
    # two titles, words, warning, command, directory; and twice a heading, words, two columns with
    # a value each, and the name and meaning of a column
    assert tags.text.count(EVIL) == 6 + 2 * 8


def test_all_columns_are_those_of_any_row():
    rows = [{f"c{k}": k for k in range(9)}, {"late": 3.5}]
    page = page_of("title", [], {"Rows": rows}, [], [], {}, {}, "ppl", "run")
    folded = page.partition("All columns")[2]
    assert re.findall("<th>(.*?)</th>", folded) == [*rows[0], "late"]
    cells = re.findall("<td>(.*?)</td>", folded)
    assert cells == [*map(str, range(9)), "–", *["–"] * 9, "3.5"]


def test_a_run_by_an_evil_name_has_a_page_that_asks_for_nothing(monkeypatch, tmp_path):
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)
    out = EVIL.replace("/", "")
    run(ppca, *SHORT, "--guide", "exact", "--out", out)
    tags = Tags(Path(out, "report.html").read_text())
    assert out in tags.text
    assert {tag for tag, _ in tags.tags} <= {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "h1",
        "h2",
        "h3",
        "p",
        "pre",
        "section",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "figure",
        "img",
        "figcaption",
        "details",
        "summary",
        "code",
        "div",
        "strong",
        "dl",
        "dt",
        "dd",
        "math",
        "mrow",
        "mi",
        "mo",
        "mn",
        "msub",
        "msup",
        "mspace",
    }
    assert "PPCA on digits, guide exact" in tags.text
    assert sum(tag == "math" for tag, _ in tags.tags) == 4  # z, x; q; the bound
    sources = [given["src"] for tag, given in tags.tags if tag == "img"]
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r"https?:|@import|url\(", Path(out, "report.html").read_text())


def test_a_picture_that_fails_leaves_the_old_one(monkeypatch, tmp_path):
    from experiments.runs.files import write

    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def half(file: Path) -> None:
        file.write_bytes(b"ne")
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        write(path, half)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("part", ["model", "guide", "objective"])
def test_every_part_says_what_it_is(part):
    for name, described in KNOWN[part].items():
        (lines,) = formulas({part: name}).values()
        assert lines == story(described)
        for line in lines:
            page = mathml(line)
            assert page.startswith("<math")
            assert not re.search(r"\\|http|merror", page), line  # all of it was understood


def test_several_guides_and_parts_of_ones_own():
    labels = ["amortized:encoder=linear", "exact", "yours"]
    found = formulas({"model": "package.module:Class", "guide": labels, "objective": None})
    assert list(found) == ["guide amortized:encoder=linear", "guide exact"]


def test_images_are_tiled_into_one_picture():
    images = torch.arange(8.0).reshape(2, 1, 2, 2) / 10
    (axis,) = plots.images_in_rows({"a": images, "b": images[:1]}, ["x", "y", "z"]).axes
    canvas = np.asarray(axis.images[0].get_array())
    assert canvas.shape == (5, 5, 3)
    assert np.allclose(canvas[:2, 3:, 0], 1 - np.array([[0.4, 0.5], [0.6, 0.7]]), atol=1 / 255)
    assert np.allclose(canvas[3:, :2], canvas[:2, :2])
    assert (canvas[3:, 3:] == 1).all()
    assert len(axis.collections[0].get_paths()) == 3
    assert [text.get_text() for text in axis.get_xticklabels()] == ["x", "y"]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["a", "b"]
    for gap in (0, 1):
        (axis,) = plots.grids({"g": torch.rand(3, 3, 4, 4)}, 2, gap).axes
        canvas = np.asarray(axis.images[0].get_array())
        assert canvas.shape == (8 + gap, 8 + gap, 3)
        assert (canvas[4 + gap :, 4 + gap :] == 0).all()  # no fourth image
    (axis,) = plots.columns(torch.eye(4)[:, :1] * -3, torch.zeros(4), (1, 2, 2)).axes
    canvas = np.asarray(axis.images[0].get_array())
    assert canvas[0, 3, 2] > 2 * canvas[0, 3, 0]  # blue: below zero
    assert [text.get_text() for text in axis.get_xticklabels()] == ["μ", "w₁"]
