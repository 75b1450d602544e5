"""How Sphinx builds the site. Everything is executed, and nothing is fetched from elsewhere."""

import hashlib
import importlib.util
import os
import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from experiments.teaching.notebooks.pages import for_students, lab_page

DOCS = Path(__file__).parent
ROOT = DOCS.parent
PACKAGES = ("ppl_models", "guides", "experiments")

project = "ppl-models"
author = "the authors of ppl-models"
project_copyright = "the authors of ppl-models, Apache-2.0"
version = release = "0.1.0"

extensions = [
    "myst_nb",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx.ext.mathjax",
]
exclude_patterns = ["**.ipynb_checkpoints"]
STUDENT = globals()["tags"].has("student")  # Sphinx puts them here; set by make docs-student
if STUDENT:
    exclude_patterns.append("teachers.md")
smartquotes = False  # two hyphens begin an option
nitpicky = False  # types of torch and Pyro have no pages here; links between pages are checked

# --- pages ---------------------------------------------------------------------------------------
myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence"]
myst_heading_anchors = 3
myst_links_external_new_tab = True


def sources_digest() -> str:
    """A name for the code as it is: outputs of other code are no outputs of this one."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*")):
            if path.suffix in (".py", ".js", ".html", ".css"):
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


nb_execution_mode = "cache"
nb_execution_cache_path = str(ROOT / "build" / "docs-cache" / sources_digest())
nb_execution_raise_on_error = True
nb_execution_timeout = 1800  # seconds per cell: no page needs a minute, unless the machine is busy
nb_execution_excludepatterns = ["api/*"]
nb_merge_streams = True
nb_output_stderr = "warn"  # a page shows no warnings, and with -W none may occur
# Pyro's progress bars miss a widget that no page needs.
os.environ.setdefault("PYTHONWARNINGS", "ignore:IProgress not found")
os.environ["LAB_DATA"] = "digits"  # wherever MNIST may lie

# --- the reference -------------------------------------------------------------------------------
autodoc_default_options = {"members": True, "member-order": "bysource", "show-inheritance": True}
autodoc_inherit_docstrings = False
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 88
add_module_names = False

# A copied block is its commands, without prompts and output.
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True

# --- the look, and no outside host ---------------------------------------------------------------
html_theme = "furo"
html_title = "ppl-models"
_mathjax = importlib.util.find_spec("sphinx-mathjax-offline")
assert _mathjax is not None, "pip install '.[docs]'"
assert _mathjax.origin is not None, "pip install '.[docs]'"
# One file holds MathJax with its glyphs: no font and no script is asked for afterwards.
_mathjax_file = Path(_mathjax.origin).parent / "static/mathjax/tex-svg-full.js"
html_static_path = ["_static", str(_mathjax_file)]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
mathjax_path = _mathjax_file.name
mathjax3_config = {
    "options": {"menuOptions": {"settings": {"assistiveMml": True}}, "enableMenu": False},
}


def link_sources_to_the_reference(app: Sphinx, name: str, text: list[str]) -> None:
    """Links to a file of the code lead to that module's entry in the reference."""
    packages = "|".join(PACKAGES)
    pattern = rf"\[([^\]]*)\]\((?:\.\./)+((?:{packages})/[\w/]+)\.py\)"

    def role(match: re.Match) -> str:
        module = match[2].replace("/", ".").removesuffix(".__init__")
        return f"{{py:mod}}`{match[1].strip('`')} <{module}>`"

    text[0] = re.sub(pattern, role, text[0])


def show_stubs(app: Sphinx, name: str, text: list[str]) -> None:
    """Tasks of the labs show what students get; solutions are folded, or left out for students."""
    if name.startswith("labs/lab"):
        text[0] = lab_page(text[0], name, STUDENT)
    elif STUDENT:
        text[0] = for_students(text[0])


def list_modules(app: Sphinx, name: str, text: list[str]) -> None:
    """``% modules: PATTERNS`` in a page of the reference becomes an entry for every module."""

    def entries(match: re.Match) -> str:
        paths = sorted(path for pattern in match[1].split() for path in ROOT.glob(pattern))
        entry = "## {0}\n\n```{{eval-rst}}\n.. automodule:: {0}\n```\n"
        return "\n".join(
            entry.format(".".join(path.relative_to(ROOT).with_suffix("").parts))
            for path in paths
            if path.name not in ("__init__.py", "__main__.py")
        )

    text[0] = re.sub(r"^% modules: (.*)$", entries, text[0], flags=re.MULTILINE)


_kept: dict[str, list[str]] = {}


def keep(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Before Napoleon, which takes what stands before a colon for the type of an attribute."""
    if what in ("attribute", "data", "property"):
        _kept[name] = list(lines)


def put_back(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    if what in ("attribute", "data", "property"):
        lines[:] = _kept.pop(name, lines)


def show_commands_as_code(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Command lines in the docstring of a module, which a terminal shows as they are."""
    if what != "module":
        return
    text, inside = [], False
    for line in lines:
        command = line.strip().startswith(("python -m", "torchrun "))
        if command and not inside:
            text += ["", "::", ""]
        elif inside and not command:
            text.append("")
        text.append(f"    {line.strip()}" if command else line)
        inside = command
    lines[:] = text


def skip_what_is_elsewhere(
    app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Names that a module hands on, and fields of tuples: their class's docstring has them."""
    if type(obj).__name__ == "_tuplegetter":
        return True
    module = app.env.current_document.autodoc_module
    handed_on = what == "module" and getattr(obj, "__module__", module) != module
    return True if handed_on and hasattr(obj, "__qualname__") else None


def drop_pages_that_are_not_there(app: Sphinx, name: str, text: list[str]) -> None:
    """Patterns in the index that match no page."""
    if name == "index":
        kept = [
            line
            for line in text[0].splitlines()
            if not line.endswith("*")
            or any(path.name not in exclude_patterns for path in DOCS.glob(f"{line}.md"))
        ]
        text[0] = "\n".join(kept) + "\n"


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", link_sources_to_the_reference)
    app.connect("source-read", show_stubs)
    app.connect("source-read", list_modules)
    app.connect("source-read", drop_pages_that_are_not_there)
    app.connect("autodoc-process-docstring", keep, priority=100)
    app.connect("autodoc-process-docstring", put_back, priority=900)
    app.connect("autodoc-process-docstring", show_commands_as_code)
    app.connect("autodoc-skip-member", skip_what_is_elsewhere)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
