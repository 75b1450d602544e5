"""Runs a command from its command line, and turns errors into one line and an exit code."""

import contextlib
import ctypes
import dataclasses
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch.distributed as processes

from experiments.errors import Finished, UsageError, in_words, is_bad_input
from experiments.inference.parallel import is_main, world_size
from experiments.options.common import check
from experiments.options.parsing import name_of, parse
from experiments.options.process.streams import safe_streams
from experiments.runs.processes import join_group, started
from experiments.runs.resuming import resume_line
from experiments.runs.signals import Interrupted


@safe_streams()
def cli(config_class: type, main: Callable[[Any], Any], args: Sequence[str] | None = None) -> None:
    """Parse, check and run a command; an error gives one line on stderr and an exit code."""
    args = sys.argv[1:] if args is None else args
    try:
        check_words(args)
        config = parse(config_class, main, args)
        check(config)
        join_group(config)
        keep_freed_memory()
        warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
        try:
            main(config)
        except SystemExit as stop:
            if not is_main():  # which ends when training does
                raise
            raise UsageError(f"a model or guide ended the program (exit {stop.code}).") from stop
    except KeyboardInterrupt:
        sys.exit(130)
    except Interrupted as stop:
        if is_main():
            print(_farewell(stop, config_class, main, args), file=sys.stderr)
        sys.exit(128 + stop.number)
    except Finished as finished:
        print(finished)
    except Exception as error:
        sys.exit(failed(in_words(error), 2 if is_bad_input(error) else 1))


def _farewell(
    stop: Interrupted, config_class: type, main: Callable[[Any], Any], args: Sequence[str]
) -> str:
    """The state of an interrupted run, and the command that continues it."""
    words = f"stopped by {signal.Signals(stop.number).name} {stop.words}".rstrip()
    resumable = any(f.name == "resume" for f in dataclasses.fields(config_class))
    if stop.directory is None or not resumable:
        return f"{words}."
    return f"{words}; continue with\n{resume_line(name_of(main), args, stop.directory)}"


def check_words(args: Sequence[str]) -> None:
    """Refuse words that a report cannot show."""
    for word in args:
        if "\0" in word or any("\ud800" <= letter <= "\udfff" for letter in word):
            encoding = sys.getfilesystemencoding().upper()
            raise UsageError(f"{word!r} on the command line is not valid {encoding}.")


def keep_freed_memory() -> None:
    """Have glibc keep what a step frees: by default each step maps its tensors again.

    On two cores the lab's PPCA step takes 8 ms with it and 13 ms without.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        mmap_threshold, trim_threshold = -3, -1  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD of malloc.h
        libc.mallopt(mmap_threshold, 32 << 20)
        libc.mallopt(trim_threshold, 512 << 20)


def failed(line: str, code: int) -> int:
    """Print an error in the process that fails first; the exit code of that one, in all.

    Before the processes connect, all fail alike: the main one prints the error, or each of them if
    it cannot tell which one it is.
    """
    own = first = f"{os.environ.get('RANK', 0)} {code}"
    # a variable is wrong, or the launcher, which keeps the store, has ended
    with contextlib.suppress(UsageError, RuntimeError):
        if world_size() > 1:
            store = processes.distributed_c10d._get_default_store()
            first = store.compare_set("failed", "", own).decode()
        elif started() > 1:
            first = f"0 {code}"
    if first == own:
        print(f"error: {line}", file=sys.stderr, flush=True)
    return int(first.split()[-1])
