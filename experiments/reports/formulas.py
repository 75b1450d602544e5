"""The formulas of a run, from the docstrings of models, guides and objectives."""

import inspect
import re
from collections.abc import Mapping
from typing import Any

from experiments.inference.objectives import OBJECTIVES
from guides import GUIDES
from ppl_models import MODELS

KNOWN: dict[str, Mapping[str, type]] = {"model": MODELS, "guide": GUIDES, "objective": OBJECTIVES}


def formulas(metrics: Mapping[str, Any]) -> dict[str, list[str]]:
    """LaTeX of a run's model, guides and objective by name, without a user's own classes."""
    found = {}
    for part, classes in KNOWN.items():
        value = metrics.get(part)
        for label in value if isinstance(value, list) else [value]:
            name = re.match(r"\w*", str(label))
            lines = story(classes[name[0]]) if name and name[0] in classes else []
            if lines:
                found[f"{part} {label}"] = lines
    return found


def story(described: Any) -> list[str]:
    """The formulas of a docstring's ``.. math::``, a line each."""
    text = inspect.getdoc(described) or ""
    block = re.search(r"\.\. math::\n((?:\s*\n| +.*\n?)*)", text)
    lines = re.split(r"\\\\|\n\s*\n", block[1]) if block else []
    return [" ".join(line.replace("&", " ").split()) for line in lines if line.strip()]


def mathml(latex: str) -> str:
    """A formula as MathML, which browsers display natively."""
    from latex2mathml.converter import convert  # slow to import

    text = convert(latex.replace(r"\mathcal N", "𝒩"), display="block")
    # browsers know the namespace, and give relations, not names, room on both sides
    text = text.replace(' xmlns="http://www.w3.org/1998/Math/MathML"', "")
    return text.replace("<mi>&#x0007E;</mi>", "<mo>&#x0223C;</mo>")
