"""Faults of the machine during a run, reported in one line; saved checkpoints are kept."""

import errno
import re
from pathlib import Path

from experiments.errors import TrainingError, is_out_of_memory, one_line
from experiments.inference.parallel import world_size
from experiments.runs.checkpoint import checkpoints

LOST = re.compile("gloo|nccl|connection (closed|reset|refused)|broken pipe", re.IGNORECASE)
"""Messages of torch.distributed about a peer that has disconnected."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def raise_fault(error: Exception, directory: Path) -> None:
    """Report a fault of disk, memory or another process, and the last complete checkpoint."""
    words = _fault(error)
    if words is not None:
        last = "nothing is kept yet"
        if kept := checkpoints(directory):
            last = f"{kept[-1]} is complete: --resume continues from it"
        raise TrainingError(f"{words}; {last}.") from error


def _fault(error: Exception) -> str | None:
    text = one_line(str(error), 150)
    if isinstance(error, OSError):
        reason = "no space is left on the disk" if error.errno in FULL else error.strerror or text
        return f"{error.filename}: {reason}" if error.filename else reason
    if is_out_of_memory(error):
        return f"out of memory ({text or 'MemoryError'}); a smaller --batch-size needs less"
    if world_size() > 1 and LOST.search(text):
        return "another process has ended or cannot be reached"
    return None
