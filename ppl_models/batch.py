"""The one argument of every model and guide, and the plate of its rows."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pyro
import torch
from torch import Tensor
from torch.utils._pytree import tree_map


class Batch(NamedTuple):
    """The one argument of every model and guide.

    Args:
        x: observations ``[B, *data_shape]``, or a dictionary of them by site where a model has
            several observed sites; ``None``, or a site that is missing, is drawn by the model.
        index: positions of the rows in their data set, ``[B]``.
        size: N, the number of rows in the data set.
        given: what the model conditions on, such as labels, covariates or masks, ``[B, ...]``
            each.
        repeats: number of copies of the rows, one after the other, where particles share the batch
            dimension.
    """

    x: Tensor | dict[str, Tensor] | None
    index: Tensor  # type: ignore[assignment]  # hides the tuple's method of that name
    size: int
    given: dict[str, Tensor] = {}  # noqa: RUF012  # a default that nobody changes
    repeats: int = 1

    @classmethod
    def of(cls, x: Tensor | dict[str, Tensor], given: dict[str, Tensor] | None = None) -> "Batch":
        """The whole of ``x`` as one batch."""
        first = next(iter(x.values())) if isinstance(x, dict) else x
        return cls(x, torch.arange(len(first), device=first.device), len(first), given or {})

    def obs(self, site: str = "x") -> Tensor | None:
        """What was observed at a site; ``None`` to have the model draw it.

        Raises:
            ValueError: If ``x`` is a tensor, which belongs to the site x, and this is another.
        """
        if isinstance(self.x, dict):
            return self.x.get(site)
        if self.x is not None and site != "x":
            raise ValueError(
                f"batch.x is a tensor, the observation of 'x': give a dictionary with '{site}'."
            )
        return self.x

    @property
    def only(self) -> Tensor:
        """The observation, where there is one.

        Raises:
            ValueError: If nothing is observed, or several sites are.
        """
        values = list(self.x.values()) if isinstance(self.x, dict) else [self.x]
        if len(values) != 1 or values[0] is None:
            raise ValueError("one observation is needed here, not several sites or none.")
        return values[0]

    def flat(self) -> Tensor:
        """All that is observed or given of every row, side by side, ``[B, C]``.

        Raises:
            ValueError: If nothing is observed.
        """
        seen = self.x if isinstance(self.x, dict) else {"x": self.only}
        parts = [seen[name] for name in sorted(seen)]
        parts += [self.given[name] for name in sorted(self.given)]
        if len(parts) == 1:
            return parts[0].reshape(len(parts[0]), -1)
        dtype = next((part.dtype for part in parts if part.is_floating_point()), None)
        return torch.cat([part.reshape(len(part), -1).to(dtype) for part in parts], 1)

    def each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """The batch with all of its tensors changed in the same way."""
        x, given = tree_map(change, (self.x, dict(self.given)))
        return self._replace(x=x, index=change(self.index), given=given)

    def repeated(self, times: int) -> "Batch":
        """The batch repeated ``times`` times, ``[times * B]``."""
        more = self.each(lambda rows: rows.repeat(times, *(1,) * (rows.ndim - 1)))
        return more._replace(repeats=times * self.repeats)

    def unobserved(self) -> "Batch":
        """The same rows and what is given of them, with everything else to be drawn."""
        return self._replace(x=None)

    @classmethod
    def draw(cls, size: int, device: torch.device | str | None = None) -> "Batch":
        """A request for ``size`` rows from the generative story."""
        return cls(None, torch.arange(size, device=device), size)


def data_plate(batch: Batch) -> pyro.plate:
    """The plate of the data: size N, this batch's rows, so log-densities are rescaled by N / B.

    Returns:
        The plate "data" at dim -1.
    """
    return pyro.plate("data", batch.size, subsample=batch.index, dim=-1)


class _NotGiven(KeyError):
    """A program has read what is not given."""


class _Given(dict[str, Tensor]):
    """``batch.given`` whose missing entries raise an error of their own."""

    def __missing__(self, name: str) -> Tensor:
        raise _NotGiven(name)


@contextmanager
def needs_given(batch: Any) -> Iterator[Any]:
    """The batch for a program that may read an entry missing from ``batch.given``.

    Raises:
        ValueError: If the program reads such an entry, which is named, or if it gives
            ``pyro.sample`` a distribution from ``torch.distributions``. All other errors pass
            unchanged, also a ``KeyError`` of the program's own dictionaries. A batch of another
            class than ``Batch`` is not watched for missing entries.
    """
    watched = type(batch) is Batch and type(batch.given) is dict
    try:
        yield batch._replace(given=_Given(batch.given)) if watched else batch
    except _NotGiven as error:
        name, there = error.args[0], ", ".join(batch.given) or "nothing"
        raise ValueError(
            f"the model reads batch.given[{name!r}], and {there} is given. Give the data with "
            f"as_data(x, given={{{name!r}: ...}}); before a guide is built from the model, "
            "show it to the model once with describe(model, data)."
        ) from None
    except TypeError as error:
        name, uncallable, _ = str(error)[1:].partition("' object is not callable")
        if not uncallable or name not in torch.distributions.__all__:
            raise
        raise ValueError(
            f"pyro.sample cannot draw from torch.distributions.{name}: use {name} of "
            "pyro.distributions."
        ) from error
