"""Options of models and guides, a user's own among them: what their constructors take."""

import dataclasses
import importlib
import inspect
import os
import sys
from collections.abc import Set
from typing import Annotated, Any, get_type_hints

import tyro

from experiments.errors import UsageError
from experiments.options.trust import check_outside_of_runs

__all__ = ["FILLED_IN", "import_model", "options_of"]

FILLED_IN = {
    "self",
    "model",
    "size",
    "data_dim",
    "data_shape",
    "bits",
}  # by the data, not by the user


def import_model(name: str) -> type:
    """A model by its name, or a class of one's own as ``package.module:Class``.

    Raises:
        UsageError: If there is no such model, or the class cannot be imported or lies in a run
            directory.
    """
    from torch.nn import Module

    from ppl_models import MODELS
    from ppl_models.names import unknown

    if name in MODELS:
        return MODELS[name]
    module, _, attribute = name.partition(":")
    if not attribute:
        raise UsageError(f"{unknown('model', name, MODELS)[:-1]}, or package.module:Class.")
    sys.path.insert(0, os.getcwd())
    try:
        check_outside_of_runs(module)
        found = getattr(importlib.import_module(module), attribute)
        if not (isinstance(found, type) and issubclass(found, Module)):
            raise UsageError(f"model '{name}' is not a torch.nn.Module class.")
        return found
    except UsageError:
        raise
    except Exception as error:  # a module raises what it likes while it is imported
        words = str(error) or type(error).__name__
        raise UsageError(f"model '{name}' cannot be imported: {words}.") from error
    finally:
        sys.path.append(sys.path.pop(0))  # last, for what its functions import later


def options_of(
    target: type, kind: str, defaults: dict[str, Any] | None = None, taken: Set[str] = frozenset()
) -> type:
    """A frozen dataclass of the constructor's options, with their help from its docstring."""
    from docstring_parser import parse as parse_docstring

    documented = {p.arg_name: p.description for p in parse_docstring(target.__doc__ or "").params}
    hints = get_type_hints(target.__init__)  # type: ignore[misc]
    fields = []
    for name, parameter in inspect.signature(target).parameters.items():
        if name in FILLED_IN or parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
            continue
        if parameter.default is parameter.empty:
            raise UsageError(f"{target.__name__} has an option without a default: {name}.")
        short = kind == "model" and name not in taken
        alias = [f"--{name.replace('_', '-')}"] if short else []
        argument = tyro.conf.arg(help=documented.get(name), aliases=alias)
        hint: Any = Annotated[hints.get(name, type(parameter.default)), argument]
        default = (defaults or {}).get(name, parameter.default)
        fields.append((name, hint, dataclasses.field(default=default)))
    return dataclasses.make_dataclass(f"{kind.title()}Options", fields, frozen=True)
