"""Messages about unknown names."""

import difflib
from collections.abc import Iterable


def suggestion(name: str, names: Iterable[str]) -> str:
    """A question after the nearest name, followed by a space; empty if none is near."""
    known = {known.lower(): known for known in names}
    close = difflib.get_close_matches(name.lower(), known, 1)
    return f"did you mean {known[close[0]]}? " if close else ""


def unknown(kind: str, name: str, names: Iterable[str]) -> str:
    """The message for an unknown name: the nearest known name, then all of them, in one line."""
    known = list(names)
    near = suggestion(name, known)
    there = "There" if near else "there"
    return f"{kind} '{name}' is unknown; {near}{there} are {', '.join(known)}."
