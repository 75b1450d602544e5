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
    return f"{kind} '{name}' is unknown; {near}{'There' if near else 'there'} are " + (
        f"{', '.join(known)}."
    )
