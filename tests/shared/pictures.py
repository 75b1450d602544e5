"""Runs whose pictures nobody looks at."""

import contextlib
from collections.abc import Iterator

import pytest
from matplotlib.figure import Figure


@contextlib.contextmanager
def undrawn() -> Iterator[None]:
    """Inside, figures are made but not drawn, which takes a third of a short run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda self, path, **_: path.write_bytes(b"PNG"))
        yield
