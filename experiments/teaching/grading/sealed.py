"""Checks that a notebook cannot replace, on a library that is as it was.

What runs in the same process can be changed by it: ``check.kl = print`` in a notebook changes the
module for everybody. So the checks are loaded a second time, where no notebook knows them, and
while one of them runs, the modules that it relies on are put back as they were.
"""

import builtins
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

CHECKS = "experiments.teaching"
WATCHED = ("torch", "pyro", "ppl_models", "guides", "experiments", "math", "random")
"""Modules, with those inside them, that checks rely on."""
LAZY = ("torch._dynamo", "torch._inductor", "torch.fx")
"""Modules that patch themselves at run time."""

SHIFTING = (
    "__builtins__",
    "__doc__",
    "__dict__",
    "__weakref__",
    "__annotations__",
    "__warningregistry__",
)


def private_checks() -> ModuleType:
    """A second copy of ``experiments.teaching.check`` and of all that it imports from here."""
    ours = [name for name in sys.modules if _inside(name, (CHECKS,))]
    kept = {name: sys.modules.pop(name) for name in ours}
    try:
        return importlib.import_module(f"{CHECKS}.check")
    finally:
        for name in [name for name in sys.modules if _inside(name, (CHECKS,))]:
            del sys.modules[name]
        sys.modules.update(kept)
        setattr(sys.modules["experiments"], "teaching", kept[CHECKS])  # noqa: B010


class Kept:
    """The names in the modules that checks rely on, as they are when this is built."""

    def __init__(self) -> None:
        self.names = {id(owner): (owner, dict(vars(owner))) for owner in _owners()}

    def changed(self) -> dict[str, tuple[Any, str, Any, Any]]:
        """What has another value now: place, its owner, name, value before, value now."""
        found = {}
        for owner, names in self.names.values():
            now = vars(owner)
            for name, value in names.items():
                if now.get(name, self) is not value and name not in SHIFTING:
                    place = f"{getattr(owner, '__module__', '')}.{owner.__name__}.{name}"
                    found[place.lstrip(".")] = owner, name, value, now.get(name)
        return found

    def replaced(self) -> list[str]:
        """The functions and classes that a notebook replaced by something of its own.

        Libraries replace their own functions too, for a reason.
        """
        return sorted(
            place
            for place, (_, _, old, new) in self.changed().items()
            if callable(old) and _home(new) != place.split(".")[0]
        )

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Inside, everything is as it was; afterwards as it has become."""
        changed = self.changed().values()
        for owner, name, old, _ in changed:
            setattr(owner, name, old)
        try:
            yield
        finally:
            for owner, name, _, new in changed:
                setattr(owner, name, new)


def _home(value: Any) -> str:
    """The package that something is from."""
    return str(getattr(value, "__module__", "")).split(".")[0]


def _owners() -> Iterator[Any]:
    """The modules that are watched, and the classes defined in them."""
    yield builtins
    for module in list(sys.modules.values()):
        name = getattr(module, "__name__", None)
        if not isinstance(name, str) or not isinstance(module, ModuleType):
            continue
        if _inside(name, LAZY) or not _inside(name, WATCHED):
            continue
        yield module
        for value in list(vars(module).values()):
            if issubclass(type(value), type) and value.__module__ == name:
                yield value


def _inside(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)
