"""Signals that end a run: the first one after the current step, the second one at once."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

ENDING = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """A run was interrupted: the signal, the progress, and the directory."""

    def __init__(self, number: int, words: str = "") -> None:
        super().__init__(words)
        self.number, self.words = number, words
        self.directory: Path | None = None


class Signals:
    """Inside, SIGINT and SIGTERM raise ``Interrupted``, or are deferred by ``deferred``.

    Attributes:
        received: the signal that was received.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._deferred = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # only the main thread may
            self._before = {number: signal.signal(number, self._receive) for number in ENDING}
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.received and isinstance(error, Exception):  # for example an interrupted import
            raise Interrupted(self.received) from error

    def _receive(self, number: int, frame: Any) -> None:
        # The second signal has the system's handler, which needs no Python. torchrun forwards
        # signals that a terminal has already sent to all processes, and kills those that take too
        # long.
        several = os.environ.get("WORLD_SIZE", "1") != "1"
        following = signal.SIG_IGN if several else signal.SIG_DFL
        for each in ENDING:
            signal.signal(each, following)
        self.received = number
        if not self._deferred:
            raise Interrupted(number)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, a signal sets ``received`` and nothing else."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
