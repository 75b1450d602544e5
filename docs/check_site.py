"""Does the built site stand alone? No outside script, style, font or picture, no dead link inside.

python docs/check_site.py build/docs
"""

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHED = {
    "script": ("src",),
    "link": ("href",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "iframe": ("src",),
    "video": ("src", "poster"),
    "audio": ("src",),
    "object": ("data",),
    "embed": ("src",),
    "use": ("href", "xlink:href"),
    "image": ("href", "xlink:href"),
    "input": ("src",),
    "track": ("src",),
}
"""What a browser asks for by itself, when it shows a page."""

IN_STYLES = re.compile(r"""(?:url\(\s*|@import\s+)["']?\s*((?:https?:)?//[^"')\s]+)""")
IN_SCRIPTS = re.compile(
    r"""(?:\bfetch|\bimport|importScripts|\.open)\(\s*["'](?:GET["'],\s*["'])?(https?://[^"']+)"""
)


class Page(HTMLParser):
    """What one page fetches, what it links to, and the anchors it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag == "link" and found.get("rel") in ("canonical", "author", "search"):
            return
        for name in FETCHED.get(tag, ()):
            if name in found:
                self.fetched += (
                    [part.split()[0] for part in found[name].split(",") if part.strip()]
                    if name == "srcset"
                    else [found[name]]
                )


def is_outside(address: str) -> bool:
    return address.startswith("//") or urlsplit(address).scheme in ("http", "https", "ftp")


def outside(site: Path, pages: dict[Path, Page]) -> Iterator[str]:
    """Everything that a browser would ask another host for."""
    for path, page in pages.items():
        for address in page.fetched:
            if is_outside(address):
                yield f"{path.relative_to(site)}: fetches {address}"
    for pattern, suffixes in ((IN_STYLES, (".css", ".html")), (IN_SCRIPTS, (".js", ".html"))):
        for path in sorted(site.rglob("*")):
            if path.suffix in suffixes:
                for address in pattern.findall(path.read_text(encoding="utf-8", errors="replace")):
                    yield f"{path.relative_to(site)}: asks for {address}"


def dead(site: Path, pages: dict[Path, Page]) -> Iterator[str]:
    """Links and files of the site itself that lead nowhere."""
    for path, page in pages.items():
        for address in page.fetched + page.links:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc or not address:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target = target / "index.html"
            if not target.exists():
                yield f"{path.relative_to(site)}: no such file {address}"
            elif (
                parts.fragment
                and target in pages
                and unquote(parts.fragment) not in pages[target].anchors
            ):
                yield f"{path.relative_to(site)}: no such anchor {address}"


def problems(site: Path) -> list[str]:
    """Everything wrong with a built site, a line each.

    Raises:
        ValueError: If there is no site.
    """
    site = site.resolve()
    paths = sorted(site.rglob("*.html"))
    if not paths:
        raise ValueError(f"no pages under {site}: make docs builds them.")
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in paths}
    return sorted({*outside(site, pages), *dead(site, pages)})


def main() -> int:
    try:
        found = problems(Path(sys.argv[1] if len(sys.argv) > 1 else "build/docs"))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(found) or "the site stands alone: nothing from outside, no dead link")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
