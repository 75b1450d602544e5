"""Standard streams that cannot end a run: closed, full, or in a narrow encoding."""

import contextlib
import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from typing import Any


class Unfailing(io.RawIOBase):
    """A descriptor whose failed writes are dropped: a run outlives the reader of its output.

    Attributes:
        error: what the first failed write raised; later writes are dropped untried.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.descriptor = descriptor
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.descriptor

    def isatty(self) -> bool:
        return os.isatty(self.descriptor)

    def write(self, content: Any) -> int:
        while self.error is None:
            try:
                return os.write(self.descriptor, content)
            except BlockingIOError:  # whoever shares the terminal made it non-blocking
                select.select([], [self.descriptor], [])
            except OSError as error:
                self.error = error
        return len(content)


@contextlib.contextmanager
def safe_streams() -> Iterator[None]:
    """Inside, no write to stdout or stderr fails.

    Characters outside of the encoding are escaped. When everything else went well but stdout
    could not be written, the exit code is 1; a reader that has closed its pipe wants no more and
    is no failure.
    """
    _open_descriptors()
    for name in ("stdout", "stderr"):
        setattr(sys, name, _safe(getattr(sys, name), getattr(sys, f"__{name}__")))
    try:
        yield
    except SystemExit as end:
        if end.code in (None, 0):
            _check_written()
        raise
    _check_written()


def _open_descriptors() -> None:
    """Open what the caller has closed, or the next file opened would become the standard error."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one


def _safe(stream: Any, original: Any) -> Any:
    if stream is None:  # closed when the interpreter started
        return open(os.devnull, "w", encoding="utf-8")
    if stream is not original or not isinstance(stream, io.TextIOWrapper):  # a notebook's, say
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        return stream
    with contextlib.suppress(OSError):
        stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(Unfailing(stream.fileno())),
        stream.encoding,
        "backslashreplace",
        line_buffering=True,  # a log shows every line when it is printed
    )


def _check_written() -> None:
    """End with code 1 if output was lost to anything but a closed pipe."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if not isinstance(raw, Unfailing):
        return
    sys.stdout.flush()
    if raw.error is not None and raw.error.errno not in (errno.EPIPE, errno.EBADF):
        print(f"error: stdout cannot be written ({raw.error.strerror}).", file=sys.stderr)
        sys.exit(1)
