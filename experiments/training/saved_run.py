"""A finished run, with its pair rebuilt and its weights and data loaded."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import pyro
import torch
from torch import nn
from tqdm import tqdm

from experiments.data import Data, load_as
from experiments.data.record import record_of
from experiments.errors import UsageError, reason
from experiments.evaluation.metrics import protocol
from experiments.inference.checks.rows import check_local
from experiments.inference.frozen import for_data
from experiments.inference.svi import Pair
from experiments.options.constructors import check_choices, import_model, new_guide
from experiments.options.data import DataOptions
from experiments.options.trust import NOTHING, Trusted, check_named
from experiments.runs.checkpoint import latest, load_weights
from experiments.runs.files import FORMAT, read_json
from experiments.runs.metrics import Metrics
from experiments.runs.run import Run
from experiments.training.data import check_data
from guides import Guide
from ppl_models import MODELS
from ppl_models.random_numbers import forked_rng
from ppl_models.sites import describe

WRITTEN: dict[str, dict[str, tuple[type, ...]]] = {
    "pair": {"model": (str,), "model_options": (dict,), "guide": (str,), "guide_options": (dict,)},
    "options": {
        "data": (str,),
        "data_root": (str, type(None)),
        "rows": (int, type(None)),
        "pad": (int,),
        "binarize": (str,),
        "binarize_seed": (int,),
        "dtype": (str,),
    },
}
"""Entries of ``config.json`` that every run with a model and a guide has, with their types."""


class SavedRun(NamedTuple):
    """A finished run, read back."""

    directory: Path
    config: dict[str, Any]
    model: nn.Module
    guide: Guide
    train: Data
    test: Data

    def images(self, most: int) -> Data:
        """At most ``most`` test images, from the first; binary images are drawn once."""
        return self.test.rows(min(most, len(self.test))).fixed()

    def new_metrics(
        self, data: Data, seed: int, particles: int | None, **protocol_of: Any
    ) -> Metrics:
        """Metrics of a command that measures ``data`` on this run and trains nothing.

        ``protocol_of`` are fields of the protocol that differ from the guide's own.
        """
        recipe = self.config["pair"]
        return Metrics(
            model=recipe["model"],
            guide=recipe["guide"],
            data=data.name,
            protocol=protocol(data, self.guide, particles) | protocol_of,
            seed=seed,
            parameters=Pair(self.model, self.guide).number_of_parameters,
        )

    @property
    def metrics(self) -> dict[str, Any]:
        """The final figures; empty if the run is not finished."""
        path = self.directory / "metrics.json"
        return read_json(path) if path.exists() else {}


def bits_of(data: Data) -> int:
    """Bits per channel of pixels k / (2^bits - 1); RGB floats other than 0 and 1 have 8."""
    rgb = data.are_images and data.image_shape[0] == 3
    if rgb and data.kind == "grey" and data.levels == 1 and (data.pixels % 1 != 0).any():
        return 8
    return (data.levels + 1).bit_length() - 1


def build_model(name: str, data: Data, options: dict[str, Any]) -> nn.Module:
    """A model by name, its data dimensions taken from the data."""
    model_class = import_model(name)
    of_data = {"data_dim": data.data_dim, "data_shape": tuple(data.image_shape)}
    accepted = inspect.signature(model_class).parameters
    shape: dict[str, Any] = {k: value for k, value in of_data.items() if k in accepted}
    if "bits" in accepted:
        shape["bits"] = bits_of(data)
    if name in MODELS:
        return model_class(**shape, **options)
    try:
        model = model_class(**shape, **options)
        describe(model, data)
        return model
    except (Exception, SystemExit) as error:  # a user's code may raise any error
        words = f"{type(error).__name__}: {reason(error)}"
        if "batch.given['label']" in words:
            words += "; --given labels gives the classes of the data"
        raise UsageError(f"model '{name}' cannot generate data ({words}).") from error


def read_config(directory: Path) -> dict[str, Any]:
    """The checked ``config.json`` of a run that has a model and a guide."""
    config = read_json(directory / "config.json")
    if (found := config.get("format")) != FORMAT:
        raise UsageError(f"{directory} is a run of format {found}; this version reads {FORMAT}.")
    if "pair" not in config:
        raise UsageError(f"{directory} ({config.get('command')}) contains no model and guide.")
    for part, types in WRITTEN.items():
        branch = config.get(part)
        values = branch if isinstance(branch, dict) else {}
        for name, kind in types.items():
            if name not in values or type(values[name]) not in kind:
                words = f"{part}.{name} is {values[name]!r}" if name in values else f"no {name}"
                raise UsageError(f"{directory}/config.json is not that of a run: {words}.")
    where = f"{directory}/config.json is not that of a run: options."
    check_choices(get_type_hints(DataOptions), config["options"], where)
    dtype = config["options"]["dtype"]
    if dtype not in ("float32", "float64"):  # it names an attribute of torch
        raise UsageError(f"{directory}/config.json is not that of a run: dtype is {dtype!r}.")
    return config


@contextmanager
def buildable(directory: Path) -> Iterator[None]:
    """Inside, errors of constructors are reported as errors in the options of a run."""
    try:
        yield
    except Exception as error:
        said = isinstance(error, UsageError)
        words = str(error).rstrip(".") if said else f"{type(error).__name__}: {reason(error)}"
        raise UsageError(
            f"{directory}/config.json does not describe a model and guide ({words})."
        ) from error


def open_run(
    directory: Path,
    data_root: Path | None,
    device: torch.device,
    data_changed: str = "refuse",
    trusted: Trusted = NOTHING,
) -> SavedRun:
    """Rebuild the pair of a run and load its weights and data.

    Raises:
        UsageError: If the directory is not a run, has another format, no guide or no checkpoint;
            if the data have changed since it was made, unless ``data_changed`` is ok; if its
            model or guide is from outside this package and is not ``trusted``.
    """
    config = read_config(directory)
    check_named(directory, config["pair"]["model"], config["pair"]["guide"], trusted)
    if not (directory / "metrics.json").exists():
        tqdm.write(f"warning: {directory} was not finished; its last saved weights are used.")
    options, recipe = config["options"], config["pair"]
    root = data_root or options["data_root"]
    root = Path(root) if root else None
    train, test = load_as(options, root, options["rows"], tqdm.write)
    changed = check_data(directory, record_of(train, test), data_changed, tqdm.write)
    config["data_changed"] = changed
    torch.empty(0, device=device)  # initialises a GPU, so that forked_rng keeps its state
    with buildable(directory), forked_rng(), pyro.poutine.block():
        built = build_model(recipe["model"], train, recipe["model_options"])
        built.to(device=device, dtype=getattr(torch, options["dtype"]))
        guide = for_data(new_guide(recipe["guide"], built, recipe["guide_options"]), len(train))
    pair = Pair(built, guide).to(memory_format=torch.channels_last)  # for convolutions
    load_weights(latest(directory), pair)
    built.eval(), guide.eval()
    return SavedRun(directory, config, built, guide, train.like(built), test.like(built))


def opened(directory: Path, config: Any, device: torch.device) -> SavedRun:
    """``open_run`` with the options of a command on saved runs."""
    other = hasattr(config, "guide_options") or config.guide in config.INSTEAD
    own = None if other else config.guide
    trusted = Trusted(config.model, own, {config.guide}, config.trust)
    return open_run(directory, config.data_root, device, config.data_changed, trusted)


def opened_for(run: Run, by_datum: bool = True) -> SavedRun:
    """The saved run on which a command works, recorded in the command's ``config.json``.

    With ``by_datum``, a model with a global latent is refused.
    """
    saved = opened(run.config.run, run.config, run.device)
    if by_datum:
        check_local(saved.model, run.command)
    run.save_config(of=saved.config)
    return saved
