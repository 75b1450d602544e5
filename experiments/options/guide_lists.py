"""Several guides in one option, each with options of its own."""

import ast
import inspect
import re
from typing import Any

from experiments.errors import UsageError
from experiments.evaluation.comparison import Entry
from experiments.options.common import check_no_mlp
from experiments.options.constructors import import_guide
from guides import GUIDES


def parse_guides(text: str) -> list[Entry]:
    """Read ``a,b:option=value:option=value,package.module:Class:option=value``.

    Raises:
        UsageError: At an unknown guide, a malformed option, or a guide named twice.
    """
    entries = []
    for label in (part.strip() for part in re.split(r",(?![^(]*\))", text)):
        name, *settings = label.split(":")
        if settings and "=" not in settings[0] and name not in GUIDES:
            name = f"{name}:{settings.pop(0)}"
        options = {}
        for setting in settings:
            option, equals, value = setting.partition("=")
            if not equals:
                raise UsageError(f"'{setting}' in --guides must be option=value.")
            options[option.replace("-", "_")] = _literal(value)
        _check_options(name, options)
        entries.append(Entry(label, name, options))
    if len({entry.label for entry in entries}) < len(entries):
        raise UsageError(f"--guides {text} names a guide twice.")
    return entries


def _check_options(guide: str, options: dict[str, Any]) -> None:
    parameters = inspect.signature(import_guide(guide)).parameters
    known = [name for name in list(parameters)[1:] if name != "size"]
    for name, value in options.items():
        if name not in known:
            raise UsageError(
                f"guide '{guide}' has no option '{name}'; it has {', '.join(known) or 'none'}."
            )
        default = parameters[name].default
        kinds = (int, float) if isinstance(default, float) else type(default)
        truth = isinstance(value, bool) and not isinstance(default, bool)  # an int to Python
        if truth or not isinstance(value, kinds):
            raise UsageError(f"{guide}:{name}={value} must be like its default, {default!r}.")
    encoder = options.get("encoder")
    if guide == "amortized" and encoder in ("linear", "conv"):
        check_no_mlp(options, import_guide(guide), f"{guide}:encoder={encoder}", f"{guide}:")


def _literal(value: str) -> Any:
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
