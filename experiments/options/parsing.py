"""From a command line to a frozen dataclass of options; ``--help`` lists them by group."""

import contextlib
import dataclasses
import io
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import tyro

from experiments.errors import UsageError
from experiments.options.constructors import import_guide, import_model, options_of
from experiments.options.groups import grouped
from experiments.options.ranges import option_name
from guides import PAIRS
from ppl_models.names import suggestion, unknown

MORE = "Rarely needed options are listed by --help-all."

COLOUR = re.compile(r"\x1b\[[\d;]*m")
"""A parser colours its message where stdout is a terminal."""
NOISE = (
    "Parsing error ",
    "Unrecognized options ",
    "Value error ",
    "Missing argument ",
    "Invalid choice ",
)
"""Titles of a parser's frames, which the text inside repeats."""
NO_TYPE = re.compile(
    r"no type matching (?:\{None\}\|)?(\S+) could be instantiated from \[(.*?)\]\. Got errors:.*?"
    r"( Argument helptext|$)"
)
IN_PYTHON = (
    (r"invalid literal for int\(\) with base 10: ('.*?')", r"\1 is no whole number"),
    (r"could not convert string to float: ('.*?')", r"\1 is no number"),
    (r"Error parsing (--\S+): ", r"\1: "),
    (" Argument helptext: ", "; "),
)
"""What Python or the parser says, and the same in plain words."""
POSITIONAL = re.compile(r"'group-\d+\.(\w+)'")
"""An argument without a name, as it is called inside the parser."""
NO_CHOICE = re.compile(r"(invalid choice '(.*?)' for argument '.*?')\. (Expected one of \(.*?\))")


def parse(config_class: type, main: Callable[[Any], Any], args: Sequence[str]) -> Any:
    """Read the command line; ``--guide`` and ``--model`` first, since they bring their options.

    Raises:
        UsageError: In one line, with what is wrong.
    """
    words = ["--help" if word == "--help-all" else word for word in args]
    everything = not {"-h", "--help"} & {*args}  # without rare options only where help is shown
    whole, names = _with_options(_with_preset(config_class, words), words)
    module, name = sys.modules[main.__module__], name_of(main)
    description = f"{(module.__doc__ or '').rstrip()}\n\n{MORE}"
    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output):
            parsed: Any = tyro.cli(
                grouped(whole, names, everything),
                args=words,
                prog=f"python -m {name}",
                description=description,
            )
    except SystemExit as end:
        if end.code in (0, None):
            raise
        raise UsageError(_one_line(output.getvalue())) from None
    values: dict[str, Any] = {}
    for group in dataclasses.fields(parsed):
        one = getattr(parsed, group.name)
        if group.name in names:
            values[group.name] = dataclasses.asdict(one)
        else:
            values |= {f.name: getattr(one, f.name) for f in dataclasses.fields(one)}
    given = _given(args, values)
    _check_lists(values, given)
    if "compile" in values and not {"--compile", "--no-compile"} & set(args):
        values["compile"] = None
    own = getattr(config_class, "OF_DATA", {}).get(values.get("data"), {})
    values |= {name: value for name, value in own.items() if name not in given}
    return config_class(**{name: _with_home(value) for name, value in values.items()})


def _with_home(value: Any) -> Any:
    """A path with ~ expanded, which a shell leaves as it is in --out=~/run and in quotes."""
    if isinstance(value, tuple):
        return tuple(map(_with_home, value))
    if not isinstance(value, Path):
        return value
    try:
        return value.expanduser()
    except RuntimeError as error:
        raise UsageError(f"{value}: {error}") from error


def _given(args: Sequence[str], values: dict[str, Any]) -> list[str]:
    """The names of options on a command line, as fields are named; those of the model in full."""
    options = (word[2:].partition("=")[0] for word in args if word.startswith("--"))
    names = [option.replace("-", "_") for option in options]
    short = values.get("model_options", {}).keys() - values.keys()
    return [f"model.{name}" if name in short else name for name in names]


def _check_lists(values: dict[str, Any], given: Sequence[str]) -> None:
    """Refuse an option with several values that is given twice: only the last would count."""
    for name, value in values.items():
        if isinstance(value, dict):
            kind = name.removesuffix("_options")
            _check_lists({f"{kind}.{key}": one for key, one in value.items()}, given)
        if isinstance(value, tuple) and given.count(name.strip("_")) > 1:
            option = option_name(name)
            raise UsageError(f"{option} is given twice; write all its values after one {option}.")


def name_of(main: Callable[[Any], Any]) -> str:
    """The module that a command is, as ``python -m`` names it."""
    module: Any = sys.modules[main.__module__]
    if main.__module__ != "__main__":
        return main.__module__
    return module.__spec__.name if module.__spec__ else Path(module.__file__).stem


def _one_line(boxed: str) -> str:
    """A parser's framed message as one line."""
    plain = COLOUR.sub("", boxed)
    words = " ".join(re.sub("[\u2500-\u257f]+|-{4,}", " ", plain).split())
    for noise in NOISE:
        words = words.removeprefix(noise)
    words = NO_TYPE.sub(r"\2 is no \1\3", words)
    words = NO_CHOICE.sub(_nearest_choice, words)
    for pattern, plainly in IN_PYTHON:
        words = re.sub(pattern, plainly, words)
    words = POSITIONAL.sub(lambda found: found[1].upper(), words)
    return words.split(" For full helptext")[0]


def _nearest_choice(found: re.Match[str]) -> str:
    """A parser's message about a choice, with the nearest one named."""
    near = suggestion(found[2], re.findall("'(.*?)'", found[3]))
    return f"{found[1]}; {near}{found[3]}" if near else found[0]


def _value(args: Sequence[str], option: str, default: str) -> str:
    """The last value of an option in ``args``, before they are parsed as a whole."""
    value = default
    for position, word in enumerate(args):
        if word.startswith(f"{option}="):
            value = word.split("=", 1)[1]
        elif word == option and position + 1 < len(args):
            value = args[position + 1]
    return value


def _with_preset(config_class: type, args: Sequence[str]) -> type:
    """The dataclass with the defaults of the chosen ``--preset``, where there are presets."""
    presets = getattr(config_class, "PRESETS", None)
    if presets is None:
        return config_class
    name = _value(args, "--preset", config_class.preset)  # type: ignore[attr-defined]
    trained = _value(args, "--pretrained", name)
    name = trained if trained in presets else name
    if name not in presets:
        raise UsageError(unknown("preset", name, presets))
    hints = get_type_hints(config_class, include_extras=True)
    fields: list[Any] = [("preset", str, dataclasses.field(default=name))]
    for key, value in presets[name].items():
        default: Any = (
            {"default_factory": value.copy} if isinstance(value, dict) else {"default": value}
        )
        fields.append((key, hints[key], dataclasses.field(**default)))
    chosen = dataclasses.make_dataclass(
        config_class.__name__, fields, bases=(config_class,), frozen=True
    )
    chosen.__module__ = config_class.__module__
    return chosen


def _with_options(config_class: type, args: Sequence[str]) -> tuple[type, list[str]]:
    """The dataclass with the chosen guide's and model's own options among its fields."""
    fields = {f.name: f for f in dataclasses.fields(config_class)}
    extra: list[Any] = []
    if "compile" in fields:  # two flags, and a rule where neither is given
        words = tyro.conf.arg(help_behavior_hint="(default: by rule)")
        extra.append(("compile", Annotated[bool, words], dataclasses.field(default=False)))
    for kind in ("model", "guide"):
        name = f"{kind}_options"
        if name not in fields:
            continue
        chosen = _value(args, f"--{kind}", str(fields[kind].default))
        if kind == "model":
            chosen_class = import_model(chosen)
        else:
            model = config_class.__module__
            if "model" in fields:
                model = _value(args, "--model", str(fields["model"].default))
            chosen_class = import_guide(chosen, PAIRS.get(model.split(".")[-1]))
        factory: Any = fields[name].default_factory
        options: Any = options_of(chosen_class, kind, factory(), set(fields))
        hint: Any = Annotated[options, tyro.conf.arg(name=kind)]
        extra.append((name, hint, dataclasses.field(default_factory=options)))
    if not extra:
        return config_class, []
    whole = dataclasses.make_dataclass(
        config_class.__name__, extra, bases=(config_class,), frozen=True
    )
    return whole, [name for name, _, _ in extra if name != "compile"]
