"""The data of a run: loaded by its options, recorded, and compared when it is resumed."""

import dataclasses

import torch

from experiments.data import Data, load_as
from experiments.data.arrays import check_precision
from experiments.data.record import record_of
from experiments.errors import TrainingError, UsageError
from experiments.inference.parallel import world_size
from experiments.runs.data_record import check_data
from experiments.runs.processes import main_process_first
from experiments.runs.run import Run


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
