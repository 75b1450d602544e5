"""Build the site into a temporary folder, check it, and put it in place of the old one.

python docs/build_site.py              # build/docs
python docs/build_site.py --student    # build/docs-student: no solutions, no answers

Whatever fails or is interrupted leaves the old site as it was.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from check_site import problems

DOCS = Path(__file__).parent
BUILD = DOCS.parent / "build"
FROM_SCRATCH = 4
"""Minutes on two cores, as measured."""


def main(words: Sequence[str] | None = None, build: Path = BUILD) -> int:
    """Build a site; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--student", action="store_true", help="no solutions and no answers")
    student = parser.parse_args(words).student
    name = "docs-student" if student else "docs"
    print(forecast(build, name), flush=True)
    build.mkdir(exist_ok=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=build) as folder:
        new = Path(folder) / "site"
        if sphinx(new, Path(folder) / "doctrees", student):
            print(f"the site was not built; {build / name} is as it was", file=sys.stderr)
            return 1
        found = problems(new)
        if found:
            print("\n".join(found), file=sys.stderr)
            return 1
        swap(new, build / name, Path(folder) / "old")
    seconds = round(time.monotonic() - started)
    (build / f"{name}-seconds.json").write_text(json.dumps(seconds), encoding="utf-8")
    print(f"{build / name}: built in {seconds / 60:.1f} minutes; it needs nothing from outside")
    return 0


def forecast(build: Path, name: str) -> str:
    """How long it will take, in a line."""
    pages = sum(
        "```{code-cell}" in page.read_text(encoding="utf-8") for page in DOCS.rglob("*.md")
    )
    words = (
        f"Building {name}: {pages} pages are executed where they or the code have changed, which "
        f"takes about {FROM_SCRATCH} minutes on two cores the first time (longer on a busy "
        "machine), and one minute or two if nothing has."
    )
    last = build / f"{name}-seconds.json"
    seconds = last.read_text(encoding="utf-8") if last.exists() else ""
    if re.fullmatch(r"\d+", seconds):
        words += f" The last build took {int(seconds) / 60:.1f} minutes."
    return words


def sphinx(new: Path, doctrees: Path, student: bool) -> int:
    """Run Sphinx on all cores, one page each, any warning being an error; its exit code."""
    tag = ["-t", "student"] if student else []
    options = ["-W", "--keep-going", "-q", "-j", "auto", "-b", "html", *tag, "-d", str(doctrees)]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.call(
        [sys.executable, "-m", "sphinx", *options, str(DOCS), str(new)], env=one_thread
    )


def swap(new: Path, site: Path, old: Path) -> None:
    """Put a new site where the old one is, by two renames."""
    if site.exists():
        os.replace(site, old)
    os.replace(new, site)
    shutil.rmtree(old, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
