"""Files that are either the old or the new, never half of either.

Of several processes only the first one writes.
"""

import json
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.runs.errors import UsageError, reason
from experiments.runs.processes import follows

__all__ = ["append", "read_json", "read_records", "write", "write_json"]


def write(path: Path, save: Callable[[Path], Any]) -> Path:
    """Have ``save`` fill a temporary file beside ``path``, sync it, and rename it to ``path``."""
    if follows():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, suffix=path.suffix, prefix=".")
    temporary = Path(name)
    try:
        os.close(descriptor)
        save(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def append(path: Path, line: str) -> None:
    """Add a line to a file."""
    if not follows():
        with path.open("a") as file:
            file.write(line + "\n")


def write_json(path: Path, content: Any) -> Path:
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    return write(path, lambda file: file.write_text(text))


def read_json(path: Path) -> Any:
    """Read a JSON file of a run.

    Raises:
        UsageError: If it is missing, not JSON, or nested too deeply.
    """
    try:
        return _json(path.read_text())
    except FileNotFoundError:
        raise UsageError(f"{path.parent} is not a run: it has no {path.name}.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read ({reason(error)}).") from error


def read_records(path: Path, count: int) -> list[dict[str, Any]]:
    """The first lines of a run's ``metrics.jsonl``, each an epoch.

    Raises:
        UsageError: If there are fewer, or they are not those of epochs.
    """
    try:
        records = [_json(line) for line in path.read_text().splitlines()[:count]]
        seconds = [record["seconds"] + record["epoch"] for record in records]
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is damaged ({reason(error)}).") from error
    if len(seconds) < count:
        raise UsageError(f"{path} has {len(seconds)} epochs, the checkpoint has {count}.")
    return records


def _json(text: str) -> Any:
    """JSON as the standard has it: Python would read NaN and Infinity too."""
    return json.loads(text, parse_constant=_finite, parse_float=_finite)


def _finite(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError(f"{text} is no finite number")
    return float(text)
