"""Errors that are reported in one line."""

import difflib
import errno
import os
import re
import traceback
from collections.abc import Iterable

BAD_PATH = (
    errno.EACCES,
    errno.EEXIST,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
)
"""Error numbers of a path that cannot be used; a full disk is not among them."""
INVALID_VALUES = "but found invalid values"
"""In torch's message about parameters that a distribution refuses, such as a scale of 0."""
NO_MEMORY = re.compile("allocate memory|not enough memory|out of memory")
"""Torch's messages about a lack of memory, on CPUs and GPUs."""


class UsageError(ValueError):
    """Bad input: printed as one line, exit code 2."""


class OnlyAtOwnDraws(ValueError):
    """A density at a given value is unknown, since a transform has no inverse."""


class TrainingError(RuntimeError):
    """A run that failed during training: printed as one line, exit code 1."""


class Finished(Exception):
    """There is nothing left to do: the message is printed unchanged, exit code 0."""


def is_bad_input(error: Exception) -> bool:
    """Whether the user can correct an error: a wrong value, or a path that cannot be used."""
    return isinstance(error, ValueError) or (
        isinstance(error, OSError) and error.errno in BAD_PATH
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on a CPU or a GPU."""
    return isinstance(error, MemoryError) or bool(NO_MEMORY.search(str(error)))


def in_words(error: BaseException) -> str:
    """An error as one line; for unexpected errors, the line says how to get a traceback."""
    if os.environ.get("PPL_DEBUG", "0") not in ("", "0"):
        traceback.print_exception(error)
    words = said_by(error)
    if isinstance(error, OSError) and error.strerror and error.filename:
        return one_line(f"{error.filename}: {error.strerror}")
    if isinstance(error, (ValueError, OSError, TrainingError)):
        return words
    if is_out_of_memory(error):
        return f"there is not enough memory ({words or 'MemoryError'})."
    return f"{type(error).__name__}: {words[:300]} (PPL_DEBUG=1 shows where)"


def text_of(error: BaseException) -> str:
    """The message of an error; empty if its own ``__str__`` raises."""
    try:
        return str(error)
    except BaseException:  # a notebook raises what it likes
        return ""


def said_by(error: BaseException) -> str:
    """The message of an error as one line, without the tables that Pyro and torch add."""
    words = text_of(error).partition("Trace Shapes:")[0]
    told, invalid, _ = words.partition(INVALID_VALUES)  # and the whole tensor
    return one_line(f"{told}but found others." if invalid else words)


def reason(error: BaseException) -> str:
    """The cause of an error in a few words, to be used inside a line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return one_line(text_of(error), 200).split(". ")[0] or type(error).__name__


def one_line(text: str, most: int = 2000) -> str:
    """Any text as one printable line with a maximum length."""
    words = " ".join(text.split())
    words = words if len(words) <= most else f"{words[:most]} ..."
    return "".join(x if x.isprintable() else x.encode("unicode_escape").decode() for x in words)


def listed(name: str, names: Iterable[str]) -> str:
    """The known names, after the one nearest to an unknown name; loads no torch."""
    known = list(names)
    close = difflib.get_close_matches(name, known, 1)
    return (f"did you mean {close[0]}? There" if close else "there") + f" are {', '.join(known)}"
