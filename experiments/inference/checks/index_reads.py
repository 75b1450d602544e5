"""Detects tables indexed by ``batch.index``, which only fit one data set."""

from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import torch
import torch.nn.functional as F
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from guides import Guide
from guides.local import PerDatumGuide
from ppl_models.batch import Batch

LOOKUPS = (
    Tensor.__getitem__,
    Tensor.index_select,
    torch.index_select,
    Tensor.take,
    torch.take,
    Tensor.gather,
    torch.gather,
    F.embedding,
    torch.embedding,
)
KEEPS_VALUES = (
    Tensor.to,
    Tensor.long,
    Tensor.int,
    Tensor.clone,
    Tensor.detach,
    Tensor.contiguous,
    Tensor.repeat,
    Tensor.expand,
    Tensor.view,
    Tensor.reshape,
    Tensor.unsqueeze,
    Tensor.squeeze,
    Tensor.flatten,
    Tensor.cpu,
)

OF_ITS_SHAPE = (
    Tensor.new_zeros,
    Tensor.new_ones,
    Tensor.new_full,
    Tensor.new_empty,
    torch.zeros_like,
    torch.ones_like,
    torch.full_like,
    torch.empty_like,
    torch.rand_like,
    torch.randn_like,
)
"""Functions that see the shape, type and device of a tensor, but no values."""

READING = (
    Tensor.item,
    Tensor.tolist,
    Tensor.numpy,
    Tensor.__array__,
    Tensor.__dlpack__,
    Tensor.__bool__,
    Tensor.__int__,
    Tensor.__float__,
    Tensor.__index__,
    Tensor.__contains__,
    Tensor.equal,
    torch.equal,
    Tensor.allclose,
    torch.allclose,
)
"""Functions that give values to Python, where they are no longer traced."""

REMEDY = (
    "Give what belongs to a datum with the data: as_data(x, given={...}), read as "
    "batch.given[...]."
)

OTHER_GUIDES = "Take mean_field, full_rank or point, which are fitted to other data."

_readers: WeakSet[Any] = WeakSet()
"""Models whose density depends on ``batch.index``, and users' guides that look rows up by it."""


class IndexReads(TorchFunctionMode):
    """Traces the use of ``batch.index`` inside a program.

    Attributes:
        read: whether its values are used for anything except the rows of a plate.
        tables: rows of every table that was looked up by the index itself.
    """

    def __init__(self, batch: Batch) -> None:
        super().__init__()
        self.followed = {id(batch.index): (batch.index, True)}
        self.read, self.tables = False, set[int]()

    def __torch_function__(
        self,
        func: Callable,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        leaves = tree_leaves((args, kwargs))
        plain = [self.followed[id(leaf)][1] for leaf in leaves if id(leaf) in self.followed]
        if plain and func in READING:
            self.read = True
        elif plain and func not in OF_ITS_SHAPE:
            for part in tree_leaves(result):  # sort, split and unbind return several
                if isinstance(part, Tensor):
                    self._follow(func, args, part, all(plain))
        return result

    def _follow(self, func: Callable, args: tuple[Any, ...], result: Tensor, plain: bool) -> None:
        tables = [value for value in args[:2] if isinstance(value, Tensor)]
        looked_up = [value for value in tables if id(value) not in self.followed]
        if func in LOOKUPS and looked_up:
            self.read = True
            if plain:
                self.tables.add(len(looked_up[0]))
        elif result.is_floating_point() or result.dtype == torch.bool:
            self.read = True
        else:
            self.followed[id(result)] = (result, plain and func in KEEPS_VALUES)

    def check(self, owner: str, size: int) -> None:
        """Refuse tables that do not fit the data set."""
        for rows in self.tables - {size}:
            raise ValueError(
                f"{owner} looks up a table of {rows} rows by batch.index, but the data set has "
                f"{size}: these are rows of other data. {REMEDY}"
            )


def note_reads(model: Any, guide: Any, guide_trace: Trace, batch: Batch, tables: set[int]) -> None:
    """Note a model, or else a guide, whose density depends on which rows of a data set it sees.

    A per-datum guide may read the index, too, so the model is run at the guide's draws.
    """
    with IndexReads(batch) as reads:
        poutine.replay(model, trace=guide_trace)(batch)
    if reads.read:
        _readers.add(poutine.unwrap(model))
    elif tables and not isinstance(poutine.unwrap(guide), PerDatumGuide):
        _readers.add(poutine.unwrap(guide))


def reads_index(model: Any) -> bool:
    """Whether a checked model reads the index."""
    return model in _readers


def note_training_data(model: Any, guide: Any, data: Any) -> None:
    """Note the data that a pair was trained on, if the model or the guide looks rows up."""
    has_rows = getattr(type(guide), "for_data", Guide.for_data) is not Guide.for_data
    if model in _readers:
        note_rows(model, data)
    if has_rows or guide in _readers:
        note_rows(guide, data)


def note_rows(program: Any, data: Any) -> None:
    """Note in a program, and so in copies of it, the data to which its rows belong."""
    program._rows_of = data.sha256


def has_rows_of_other_data(program: Any, data: Any) -> bool:
    """Whether the rows that a program looks up are known to be of other data."""
    return getattr(program, "_rows_of", None) not in (None, data.sha256)


def check_training_data(model: Any, guide: Any, data: Any) -> None:
    """Refuse data other than those whose rows a model or a user's guide looks up."""
    for program, remedy in ((model, REMEDY), (guide, OTHER_GUIDES)):
        held_out = program is model and data.split == "test"
        if program in _readers and (held_out or has_rows_of_other_data(program, data)):
            raise ValueError(
                f"{type(program).__name__} reads batch.index, which belongs to the data it was "
                f"trained on: on other data it would look up other rows. {remedy}"
            )
