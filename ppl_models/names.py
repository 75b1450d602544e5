"""Messages about unknown names."""

import difflib
from collections.abc import Collection, Iterable


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


def check_fits(
    kind: str, name: str, known: Collection[str], fitting: Collection[str], to: str
) -> None:
    """Refuse a name that is unknown, or is not among those that fit something.

    Args:
        kind: what is named.
        name: the name asked for.
        known: all names.
        fitting: those that fit, which the message lists.
        to: what they fit.

    Raises:
        ValueError: If it does not fit; names those that do.
    """
    if name in fitting:
        return
    if name not in known:
        raise ValueError(unknown(kind, name, fitting))
    raise ValueError(f"{kind} '{name}' does not fit {to}, which takes {', '.join(fitting)}.")
