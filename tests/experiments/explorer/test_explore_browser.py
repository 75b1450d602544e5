"""The explorer's pages in a browser without a screen: from disk, and without network."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments.evaluation.sampling.reconstruction import mean_at
from experiments.runs.cli import cli
from experiments.tools import explore
from ppl_models import Batch
from tests.shared.explorer_runs import spread_ppca, untrained, untrained_nvae

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
FEW = ["--images", "6", "--points", "80", "--particles", "20"]


@pytest.fixture(autouse=True)
def _default_float32():
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"no browser is installed: one of {', '.join(NAMES)}")
    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=program, args=FLAGS)


@pytest.fixture(scope="module")
def pages(browser, tmp_path_factory) -> dict[str, tuple[Path, Any]]:
    """Pages of several kinds, each with its model."""
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    home = tmp_path_factory.mktemp("pages")
    shown = {"hidden_dims": [40], "activation": "tanh"}
    models = {
        "vae": untrained(home / "vae", "vae", "amortized", latent_dim=2, **shown),
        "line": untrained(home / "line", "vae", "mixture", latent_dim=1, **shown),
        "deep": untrained(home / "deep", "vae", "mixture", latent_dim=12, **shown),
        "ppca": spread_ppca(home / "ppca"),
        '<b>odd<\u2044b> & "name"': None,  # no path has a slash in a name
        "nvae": untrained_nvae(home / "nvae"),
    }
    odd = next(name for name, model in models.items() if model is None)
    models[odd] = untrained(home / odd, "ppca", "amortized", like=models["ppca"], latent_dim=2)
    for name in models:
        few = ["--temperature", "0.5", "1.0", "--readjust", "1"] if name == "nvae" else FEW
        second = ["--with", str(home / odd)] if name == "ppca" else []
        cli(explore.Config, explore.main, [str(home / name), *few, *second])
    kinds = {"odd": odd, "two": "ppca"}
    files = {
        kind: (home / kinds.get(kind, kind) / "explore.html", models[kinds.get(kind, kind)])
        for kind in ("vae", "line", "deep", "two", "odd", "nvae")
    }
    torch.set_default_dtype(torch.float64)
    return files


@pytest.fixture
def opened(browser, pages) -> Iterator[Any]:
    """A function that opens a page and holds it to silence: no other request, no console line."""
    contexts, heard, asked = [], [], []

    def open_(kind: str, width: int = 1100, touch: bool = False) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 800}, has_touch=touch)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(pages[kind][0].as_uri())
        until(page, "window.explorer !== undefined")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert heard == []
    assert all(url.startswith("data:") or url.endswith("/explore.html") for url in asked)
    assert sum(url.startswith("file:") for url in asked) == len(contexts)


def until(page: Any, condition: str) -> None:
    """Wait for it; Playwright's own way evaluates text in the page, which the page forbids."""
    for _ in range(600):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(condition)


def picture(page: Any, name: str = "#decoded") -> str:
    return page.eval_on_selector(name, "canvas => canvas.toDataURL()")


def place(page: Any) -> list[float]:
    return page.evaluate("Array.from(explorer.state.z)")


@pytest.mark.parametrize("kind", ["vae", "line", "deep", "two"])
def test_the_page_decodes_as_pytorch_does(opened, pages, kind):
    page, model = opened(kind), pages[kind][1]
    dim = len(place(page))
    z = 2 * torch.randn(20, dim).float()
    shown = page.evaluate("zs => zs.map((z) => Array.from(explorer.decoder.mean(z)))", z.tolist())
    with torch.no_grad():
        truth = mean_at(model, {"z": z}, Batch.draw(len(z))).flatten(1)
    assert np.abs(np.array(shown) - truth.numpy()).max() < 1e-5


def test_dragging_moves_the_point_and_changes_the_picture(opened):
    page = opened("vae")
    box = page.locator("#planes canvas").bounding_box()
    before, started = picture(page), place(page)
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.down()
    pressed = place(page)
    page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 0.2 * box["height"], steps=4)
    dragged = place(page)
    page.mouse.up()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.9 * box["height"])
    assert place(page) == dragged  # it was let go
    assert pressed != started
    assert dragged[0] > pressed[0]  # right
    assert dragged[1] > pressed[1]  # up
    assert picture(page) != before
    assert float(page.locator("#z1").input_value()) == pytest.approx(dragged[0], abs=0.01)


def test_touch_moves_the_point(opened):
    page = opened("vae", width=360, touch=True)
    started = place(page)
    page.locator("#planes canvas").scroll_into_view_if_needed()
    page.locator("#planes canvas").tap(position={"x": 250, "y": 60})
    assert place(page) != started
    assert min(place(page)) > 0


def test_the_keyboard_reaches_and_moves_everything(opened):
    page = opened("vae")
    names = []
    for _ in range(40):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    reached = {"CANVAS", "BUTTON", "z1", "z2", "image", "previous", "next", "close-up", "draw"}
    assert reached | {"temperature"} <= set(names)
    page.locator("#planes canvas").focus()
    page.keyboard.press("Home")
    assert place(page) == [0, 0]
    before = picture(page)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    small = place(page)
    page.keyboard.press("Shift+ArrowRight")
    assert 0 < small[0] < place(page)[0] - small[0]
    assert small[1] > 0
    assert picture(page) != before
    page.keyboard.press("Home")
    page.locator("#z2").focus()
    page.keyboard.press("ArrowLeft")
    assert place(page)[1] < 0


def test_everything_has_a_name(opened):
    for kind in ("vae", "deep", "two", "nvae"):
        page = opened(kind)
        if kind != "nvae":
            page.locator("#draw").click()
        unnamed = page.evaluate(
            "Array.from(document.querySelectorAll('canvas, img, button, select, input'))"
            ".filter((e) => !e.closest('button:not(:scope)') || e.tagName === 'BUTTON')"
            ".filter((e) => !(e.ariaLabel || e.alt || e.textContent.trim() || e.labels?.length))"
            ".map((e) => e.outerHTML.slice(0, 80))"
        )
        assert unnamed == []


@pytest.mark.parametrize("kind", ["vae", "deep", "two", "odd", "nvae"])
def test_a_narrow_screen_needs_no_scrolling_sideways(opened, kind):
    page = opened(kind, width=360)
    if kind != "nvae":
        page.locator("#draw").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_closer_look_finds_that_the_exact_guide_has_no_gap(opened):
    page = opened("two")  # exact, and beside it an encoder that nobody trained
    whole = page.evaluate("explorer.state.view")
    page.locator("#close-up").click()
    until(page, "explorer.state.grid !== null")
    rows = dict(
        page.evaluate(
            "Array.from(document.querySelectorAll('#bounds tr')).map((row) =>"
            " Array.from(row.children).map((cell) => cell.textContent))"
        )
    )
    first = {name: float(text.replace("\u2212", "-").split(" ")[0]) for name, text in rows.items()}
    grid, closed = first["log p(x), from the grid"], first["log p(x), closed form"]
    assert grid == pytest.approx(closed, abs=2e-3)
    assert first["ELBO of A"] == pytest.approx(closed, abs=2e-3)
    assert first["gap of A"] == pytest.approx(0, abs=2e-3)
    assert first["gap of B"] > 1
    assert page.evaluate("explorer.state.view") != whole
    page.locator("#close-up").click()
    assert page.evaluate("explorer.state.view") == whole


def test_choosing_an_image_moves_to_its_encoding(opened):
    page = opened("deep")
    original, started = picture(page, "#original"), place(page)
    whole = page.evaluate("explorer.state.view")
    page.locator("#next").click()
    assert place(page) == page.evaluate("Array.from(explorer.guides[0].mean[1])")
    page.locator("#image").select_option("4")
    assert picture(page, "#original") != original
    assert place(page) != started
    page.locator("#close-up").click()  # of more than two latents: on q alone
    assert page.evaluate("explorer.state.view") != whole
    close = page.evaluate("explorer.state.view")
    page.locator("#up").select_option("0")  # the axis that lies across already
    assert page.evaluate("explorer.state.axes") == [1, 0]
    turned = page.evaluate("explorer.state.view")  # the same box, seen from the other side
    assert turned["low"] == close["low"][::-1]


def test_the_temperature_is_the_draws_standard_deviation(opened):
    page = opened("deep")
    for T in ("0.05", "2"):
        page.evaluate(
            "T => { const slider = document.getElementById('temperature'); slider.value = T;"
            " slider.dispatchEvent(new Event('input')); }",
            T,
        )
        drawn = np.array(page.evaluate("explorer.state.drawn.map((z) => Array.from(z))"))
        assert drawn.shape == (16, 12)
        assert np.sqrt((drawn**2).mean()) == pytest.approx(float(T), rel=0.35)  # 7 sigma
    page.locator("#drawn button").first.click()
    assert place(page) == drawn[0].tolist()


def test_names_from_outside_are_text(opened):
    page = opened("odd")
    assert page.locator("h1").inner_text().startswith("The latent space of <b>odd<")
    assert page.locator("b").count() == 0


def test_the_pictures_of_a_hierarchy_change(opened):
    page = opened("nvae")
    seen = set()
    for T in ("0", "1"):
        for group in ("-1", "0", "1"):
            page.evaluate(
                "chosen => { for (const [id, value] of Object.entries(chosen)) {"
                " const e = document.getElementById(id); e.value = value;"
                " e.dispatchEvent(new Event('input')); } }",
                {"temperature": T, "group": group},
            )
            until(page, "document.getElementById('shown').naturalWidth > 0")
            seen.add(page.locator("#shown").get_attribute("src"))
            assert page.locator("#shown").get_attribute("alt")
    assert len(seen) == 6
