"""Batches from a torch ``DataLoader``, for data that do not fit into memory."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, SubsetRandomSampler

from experiments.data.inputs import as_data
from experiments.data.observed import as_observed
from experiments.errors import UsageError
from ppl_models.batch import Batch
from ppl_models.sites import describe


def rows_of(data: Any, model: nn.Module) -> Any:
    """A data set, or the batches of a ``DataLoader``, in the form that a model observes."""
    return Stream(data, model) if isinstance(data, DataLoader) else as_data(data).like(model)


class Stream:
    """The batches that a loader yields, in the loader's order and size.

    A batch is x, a pair (x, index) with the positions of the rows in the data set, or a dictionary
    of observed sites, with what is given under "given" and positions under "index".

    Args:
        loader: a loader of a data set that has a length.
        model: the model that observes the batches.

    Attributes:
        batch_size: B.
        indexed: whether the loader yields the positions of rows.

    Raises:
        UsageError: If the data set has no length, or the batches are of another kind.
    """

    split = "train"
    sha256 = None

    def __init__(self, loader: DataLoader, model: nn.Module) -> None:
        sampler: Any = loader.batch_sampler
        own = sampler if type(sampler) is BatchSampler else loader
        if own.batch_size is None:
            raise UsageError(
                "a DataLoader needs a batch_size: a batch_sampler's may differ from batch to "
                "batch, and the mean over an epoch's rows would be unknown."
            )
        try:
            self.size = len(loader.dataset)  # type: ignore[arg-type]
            first = next(iter(loader))
        except (TypeError, StopIteration) as error:
            raise UsageError(
                "a DataLoader needs a data set with a length, and at least one batch."
            ) from error
        self.loader, self.model = loader, model
        x, index = _parts(first)
        self.indexed, rows = index is not None, as_data(x)
        self.batch_size, self.drops = int(own.batch_size), own.drop_last
        order: Any = getattr(sampler, "sampler", None)  # may leave rows out, or repeat them
        self.visited: int = len(order) if hasattr(order, "__len__") else self.size
        if isinstance(order, SubsetRandomSampler) and not self.indexed:
            self.size = self.visited
        self.sites = describe(model, rows)
        as_observed(rows, model, self.sites)  # refuse data that do not fit before training

    def __len__(self) -> int:
        return len(self.loader) * self.batch_size if self.drops else self.visited

    def minibatches(self, size: int, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The loader's batches, starting from a given one, in the loader's order and size.

        Raises:
            UsageError: If a row occurs twice in an epoch, for example because labels are used as
                positions.
        """
        seen = torch.zeros(self.size, dtype=torch.bool)
        for content in itertools.islice(iter(self.loader), start, None):
            x, index = _parts(content)
            rows = as_data(x)
            if index is None:
                index = torch.arange(len(rows)) % self.size
            else:
                _note(index, seen)
            rows = as_observed(rows, self.model, self.sites)
            batch = rows.batch(torch.arange(len(rows), device=rows.pixels.device), training=True)
            yield batch._replace(index=index.to(batch.index), size=self.size)


def _parts(content: Any) -> tuple[Any, Tensor | None]:
    """A batch of a loader in a form that ``as_data`` accepts, and the positions of its rows."""
    if isinstance(content, Mapping):
        return content, content.get("index")
    if isinstance(content, Tensor):
        return content, None
    if isinstance(content, tuple | list) and len(content) == 1:
        return content[0], None
    if isinstance(content, tuple | list) and len(content) == 2:
        x, index = content
        if isinstance(index, Tensor) and index.dtype == torch.int64 and index.ndim == 1:
            return x, index
    raise UsageError(
        "a DataLoader yields x, (x, index) with the positions of the rows as int64, or a "
        'dictionary of observed sites, such as {"x": x, "index": index, "given": {"y": y}}.'
    )


def _note(index: Tensor, seen: Tensor) -> None:
    if index.min() < 0 or index.max() >= len(seen):
        raise UsageError(f"positions of rows must lie in 0 to {len(seen) - 1}.")
    if seen[index].any() or len(index.unique()) < len(index):
        raise UsageError(
            "a row comes twice in an epoch. The second part of (x, index) is the row's position, "
            'not its label: yield {"x": x, "index": index, "given": {"y": label}} for labels.'
        )
    seen[index] = True
