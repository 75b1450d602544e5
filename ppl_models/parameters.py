"""Parameters live in modules; those in Pyro's global store are refused by name."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine import runtime
from pyro.poutine.messenger import Messenger
from pyro.poutine.trace_messenger import TraceMessenger
from torch import nn
from torch.distributions import constraints


def device_of(module: nn.Module) -> torch.device:
    """The device of a module's parameters and buffers; the CPU if it has none."""
    parts = itertools.chain(module.parameters(), module.buffers())
    return next((part.device for part in parts), torch.device("cpu"))


def are_captured() -> bool:
    """Whether an outer handler collects parameters, as ``pyro.infer.SVI`` does in a step."""
    return any(
        isinstance(handler, TraceMessenger) and handler.param_only
        for handler in runtime._PYRO_STACK
    )


# If two Pyro modules have a parameter of the same name, the second would reuse the first's.
pyro.settings.set(module_local_params=True)


def _is_of_the_store(msg: Any) -> bool:
    """Whether a ``pyro.param`` reads the global store; not so in Pyro's modules."""
    return msg["args"] == (msg["name"],) and hasattr(msg["fn"], "__self__")


@contextmanager
def own_parameters(*programs: Any) -> Iterator[None]:
    """Inside, programs use the parameters of their modules, and none from Pyro's global store.

    These include ``pyro.module`` of a submodule and the ``PyroParam`` of a Pyro module; no other
    program can share them by name. While ``pyro.infer.SVI`` captures parameters, this does
    nothing, because ``SVI`` needs the store.

    Args:
        programs: models and guides, plain or wrapped in Pyro's handlers; the ``model`` of a guide
            is included.

    Raises:
        ValueError: At a ``pyro.param`` that is not a parameter of these modules.
    """
    if are_captured():
        yield
        return
    store = pyro.get_param_store()
    with store.scope() if len(store) else nullcontext(), OwnParameters(*programs) as own:
        try:
            yield
        except ValueError:
            if own.refused:  # Pyro appends the shapes of a trace to the message
                raise ValueError(own.refused) from None
            raise
        finally:
            store.clear()  # remove what was registered inside


class OwnParameters(Messenger):
    """Returns the parameters of modules and refuses all others.

    Args:
        programs: models and guides.
    """

    def __init__(self, *programs: Any) -> None:
        super().__init__()
        self.programs = [poutine.unwrap(program) for program in programs]
        self.refused: str | None = None

    @cached_property
    def known(self) -> set[int]:
        models = [getattr(program, "model", None) for program in self.programs]
        modules = [part for part in (*self.programs, *models) if isinstance(part, nn.Module)]
        return {id(parameter) for module in modules for parameter in module.parameters()}

    def _pyro_param(self, msg: Any) -> None:
        value = msg["args"][1] if len(msg["args"]) > 1 else None
        constrained = msg["kwargs"].get("constraint", constraints.real) is not constraints.real
        if id(value) in self.known and not constrained:
            msg["value"], msg["done"] = value, True  # the store would unfreeze or copy it
        elif _is_of_the_store(msg) and msg["name"] not in pyro.get_param_store():
            self.refuse(msg["name"])

    def _pyro_post_param(self, msg: Any) -> None:
        value = msg["value"]
        unconstrained = value.unconstrained() if hasattr(value, "unconstrained") else value
        if id(unconstrained) not in self.known:
            self.refuse(msg["name"])

    def refuse(self, name: str) -> None:
        owners = " or ".join(
            getattr(program, "__name__", type(program).__name__) for program in self.programs
        )
        self.refused = (
            f"pyro.param '{name.replace('$$$', '.')}' is not a parameter of {owners}: it would "
            "be neither trained nor saved. Make it an nn.Parameter of the module; a guide of "
            "Pyro's makes its own when it is called: call it once before."
        )
        raise ValueError(self.refused)
