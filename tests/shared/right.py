"""A call that gives the right number, or is refused in one line."""

from collections.abc import Callable
from typing import Any

import pytest


def right_or_refused(call: Callable[[], Any], want: Any, words: str = "", **tolerance: float):
    """Check what a call returns, or the line of its ``ValueError``.

    Args:
        call: returns a number.
        want: the right one.
        words: in the line of a refusal.
        tolerance: of ``pytest.approx``.
    """
    try:
        found = call()
    except ValueError as error:
        said = str(error)
    else:
        assert float(found) == pytest.approx(float(want), **tolerance)
        return
    assert "\n" not in said
    assert words in said
