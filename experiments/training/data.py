"""The data of a run: loaded by its options, recorded in ``data.json``, and compared with that
record by every later command."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from experiments.data import Data, load_as
from experiments.data.arrays import check_precision
from experiments.data.record import changes, record_of
from experiments.errors import TrainingError, UsageError
from experiments.inference.parallel import world_size
from experiments.runs.checkpoint import latest, unpacked, verified
from experiments.runs.files import read_json, reading
from experiments.runs.processes import main_process_first
from experiments.runs.run import RECORD, Run


def load_data(run: Run, every_row: bool = False) -> tuple[Data, Data]:
    """The train and test splits of a run's options, on its device."""
    config = run.config
    chosen = None if every_row else config.rows
    try:
        with main_process_first():
            train, test = load_as(dataclasses.asdict(config), config.data_root, chosen, run.say)
    except UsageError as error:
        if run.resumed:  # a fault, not bad input
            raise TrainingError(f"the run's data are gone: {error}") from error
        raise
    if world_size() > len(train):
        raise UsageError(f"{world_size()} processes are more than the {len(train)} rows.")
    check_precision(train.pixels, getattr(torch, config.dtype))
    if not every_row:
        record_data(run, train, test)
    what = "images" if train.are_images else "rows"
    shape = list(train.image_shape)
    run.say(f"{train.name}: {len(train)} train and {len(test)} test {what} of {shape}")
    if not train.are_images and len(shape) == 3 and shape[-1] in (1, 3):
        run.warn(f"rows of {shape} are not shown as images: those have channels first, [C, H, W].")
    train, test = (
        dataclasses.replace(part.to(run.device), dtype=getattr(torch, config.dtype))
        for part in (train, test)
    )
    return train, test


def record_data(run: Run, train: Data, test: Data) -> None:
    """Record the data of a run, or compare those of a resumed run."""
    record = record_of(train, test)
    if run.resumed:
        allowed = run.config.data_changed
        run.data_changed = check_data(run.path, record, allowed, run.say)
        record["changed"] = run.data_changed
    run.data_record = record


def check_data(
    directory: Path, now: dict[str, Any], allowed: str, say: Callable[[str], None]
) -> str | None:
    """The changes of a run's data since they were recorded, now or at an earlier ``--resume``.

    ``None`` if there are none; ``say`` prints warnings.

    Raises:
        UsageError: If the data have changed and ``allowed`` is not ok, or the record is damaged.
    """
    path = directory / RECORD
    then = read_json(path) if path.exists() else _record_of_older_run(directory, say)
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


def _record_of_older_run(directory: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """The record of a run without ``data.json``, from its last checkpoint and its protocol."""
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
