"""The record of a run's data, ``data.json``: written once, compared by every later command."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.data.record import changes
from experiments.errors import UsageError
from experiments.runs.checkpoint import latest, unpacked, verified
from experiments.runs.files import read_json, reading

RECORD = "data.json"


def check_data(
    directory: Path, now: dict[str, Any], allowed: str, say: Callable[[str], None]
) -> str | None:
    """The changes of a run's data since they were recorded, now or at an earlier ``--resume``.

    ``None`` if there are none; ``say`` prints warnings.

    Raises:
        UsageError: If the data have changed and ``allowed`` is not ok, or the record is damaged.
    """
    path = directory / RECORD
    then = read_json(path) if path.exists() else _of_an_older_run(directory, say)
    with reading(path):
        found, before = changes(then, now), then.get("changed")
    if found is None:
        if before:
            say(f"warning: {directory} was resumed with other data: {before}.")
        return before
    words = f"{directory}: {found}"
    if allowed != "ok":
        raise UsageError(f"{words}; restore them, or continue with --data-changed ok.")
    say(f"warning: {words}.")
    return f"{before}; {found}" if before else found


def _of_an_older_run(directory: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """What a run without a record still says: of its training data in the last checkpoint, of its
    test data in its protocol."""
    splits: dict[str, Any] = {}
    try:
        path = latest(directory)
        (state,) = verified(path, "state.pt")
        splits["train"] = {"sha256": unpacked(state, path / "state.pt")["data"]}
    except (UsageError, KeyError, TypeError, ValueError):
        pass  # errors are reported when the weights are read
    try:
        protocol = read_json(directory / "metrics.json")["protocol"]
        if protocol["split"] == "test":
            splits["test"] = {"sha256": protocol["data_sha256"]}
    except (UsageError, KeyError, TypeError):
        pass
    unknown = [split for split in ("train", "test") if split not in splits]
    if unknown:
        say(
            f"warning: {directory} has no {RECORD}: its {' and '.join(unknown)} data cannot be "
            "compared with those it was made with."
        )
    return {"splits": splits}
