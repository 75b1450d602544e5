"""Options of models and guides, including a user's classes: the arguments of their
constructors."""

import dataclasses
import importlib
import inspect
import os
import sys
from collections.abc import Iterable, Set
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import tyro
from docstring_parser import parse as parse_docstring
from torch.nn import Module

from experiments.errors import UsageError, reason
from experiments.options.trust import check_outside_of_runs
from guides import GUIDES
from ppl_models import MODELS
from ppl_models.names import unknown

FILLED_IN = {"self", "model", "size", "data_dim", "data_shape", "bits"}
"""Arguments set from the data, not by the user."""


def import_model(name: str) -> type:
    """A model by its name, or a user's class as ``package.module:Class``.

    Raises:
        UsageError: If there is no such model, or the class cannot be imported or lies in a run
            directory.
    """
    return MODELS[name] if name in MODELS else _imported("model", name, MODELS)


def import_guide(name: str, allowed: Iterable[str] | None = None) -> type:
    """A guide by its name, or a user's class as ``package.module:Class``.

    The message about an unknown name lists those that are ``allowed``, by default all.

    Raises:
        UsageError: If there is no such guide, the class cannot be imported or lies in a run
            directory, or its constructor takes no model.
    """
    if name in GUIDES:
        return GUIDES[name]
    found = _imported("guide", name, GUIDES if allowed is None else allowed)
    first = next(iter(inspect.signature(found).parameters.values()), None)
    if first is None or (first.name != "model" and first.default is not first.empty):
        raise UsageError(
            f"guide '{name}' is not built from a model: the first argument of its constructor has "
            "to be the model."
        )
    return found


def _imported(kind: str, name: str, known: Iterable[str]) -> type:
    """A user's class, by ``package.module:Class``."""
    module, _, attribute = name.partition(":")
    if not attribute:
        raise UsageError(f"{unknown(kind, name, known)[:-1]}, or package.module:Class.")
    if module.endswith(".py"):
        raise UsageError(f"{kind} '{name}' names a file: write {module[:-3]}:{attribute}.")
    sys.path.insert(0, os.getcwd())
    try:
        check_outside_of_runs(module)
        found = getattr(importlib.import_module(module), attribute)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:  # a module raises what it likes
        words = str(error) or type(error).__name__
        raise UsageError(f"{kind} '{name}' cannot be imported: {words}.") from error
    finally:
        sys.path.append(sys.path.pop(0))  # last, for what its functions import later
    if isinstance(found, type) and issubclass(found, Module):
        return found
    more = ""
    if isinstance(found, Module):
        more = f" but one of its instances: name the class, {type(found).__name__}"
    elif inspect.isfunction(found):
        more = " but a function: call it in the forward of a torch.nn.Module"
    raise UsageError(f"{kind} '{name}' is not a torch.nn.Module class{more}.")


def own_objective(guide: str) -> str:
    """The objective that a guide's class states; the ELBO if it states none."""
    return getattr(import_guide(guide), "objective", "elbo")


def gives_points(guide: str) -> bool:
    """Whether a guide of local latents gives points: they have no optimum with a learned p."""
    return guide == "point" or (":" in guide and own_objective(guide) == "log_joint")


def new_guide(name: str, model: Any, options: dict[str, Any]) -> Any:
    """A guide by its name, or of a user's class, for a model and in its dtype.

    Raises:
        UsageError: If an option has an unknown word; if a user's class cannot be built, or holds
            the model as a part.
    """
    guide_class = import_guide(name)
    if name in GUIDES:
        hints = get_type_hints(guide_class.__init__)  # type: ignore[misc]
        check_choices(hints, options, f"guide '{name}': ")
        return guide_class(model, **options)
    try:
        guide = guide_class(model, **options)
        shared = set(guide.parameters()) & set(model.parameters())
    except (Exception, SystemExit) as error:  # a user's code may raise anything
        words = f"{type(error).__name__}: {reason(error)}"
        raise UsageError(
            f"guide '{name}' cannot be built from {type(model).__name__} ({words})."
        ) from error
    if shared:
        raise UsageError(
            f"guide '{name}' holds the model as one of its parts, or a module of it, so that its "
            "weights would be kept twice: keep it in a tuple, self._model = (model,)."
        )
    like = next(model.parameters(), None)
    return guide if like is None else guide.to(device=like.device, dtype=like.dtype)


def check_choices(hints: dict[str, Any], values: dict[str, Any], where: str) -> None:
    """Refuse a word that is none of those that the type of its option lists.

    Args:
        hints: the types of the options.
        values: the options that are given.
        where: the first words of the message.

    Raises:
        UsageError: Naming the option and the words that it takes.
    """
    for name, hint in hints.items():
        words = get_args(hint) if get_origin(hint) is Literal else ()
        if words and name in values and values[name] not in words:
            raise UsageError(f"{where}{name} is {values[name]!r}, not one of {', '.join(words)}.")


def defaults_of(target: type) -> dict[str, Any]:
    """The options of a model's or guide's constructor, at their defaults."""
    parameters = inspect.signature(target).parameters.values()
    return {p.name: p.default for p in parameters if p.name not in FILLED_IN}


def options_of(target: type, kind: str, defaults: dict[str, Any], taken: Set[str]) -> type:
    """A frozen dataclass of the constructor's options, with their help from its docstring."""
    documented = {p.arg_name: p.description for p in parse_docstring(target.__doc__ or "").params}
    hints = get_type_hints(target.__init__)  # type: ignore[misc]
    fields = []
    for position, (name, parameter) in enumerate(inspect.signature(target).parameters.items()):
        if kind == "guide" and position == 0:
            continue  # the model, whatever it is called
        if name in FILLED_IN or parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
            continue
        if parameter.default is parameter.empty:
            raise UsageError(f"{target.__name__} has an option without a default: {name}.")
        short = kind == "model" and name not in taken
        alias = [f"--{name.replace('_', '-')}"] if short else []
        text = documented.get(name) or ""
        argument = tyro.conf.arg(help=text[:1].upper() + text[1:], aliases=alias)
        hint: Any = Annotated[hints.get(name, type(parameter.default)), argument]
        default = defaults.get(name, parameter.default)
        fields.append((name, hint, dataclasses.field(default=default)))
    return dataclasses.make_dataclass(f"{kind.title()}Options", fields, frozen=True)
