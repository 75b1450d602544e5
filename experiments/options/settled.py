"""Refuses options whose values another option settles, because they would be ignored."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from experiments.errors import UsageError
from experiments.options.constructors import defaults_of, import_model
from experiments.options.ranges import option_name


def check_settled(option: str, config: Any, settled: Mapping[str, Any]) -> None:
    """Refuse options beside one that settles them; a default, and the settled value, pass.

    Args:
        option: the one that settles others.
        config: the options that were given, with a ``model`` and its ``model_options``.
        settled: the values of what it settles, the model among them.

    Raises:
        UsageError: Naming all that differ.
    """
    default = type(config)()
    of_model = defaults_of(import_model(config.model)) | default.model_options
    usual = _by_name(asdict(default) | {"model_options": of_model})
    asked, taken = _by_name(asdict(config)), _by_name(settled)
    others = [
        option_name(name)
        for name, value in asked.items()
        if name.split(".")[0] in taken and value not in (usual.get(name), taken.get(name))
    ]
    if others:
        raise UsageError(f"{option} settles {', '.join(others)}: leave that out.")


def _by_name(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as JSON values, those of a model as ``model.NAME``."""
    values: dict[str, Any] = json.loads(json.dumps(options, default=str))
    of_model = values.pop("model_options", None) or {}
    return values | {f"model.{name}": value for name, value in of_model.items()}
