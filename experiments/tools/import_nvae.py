"""How good are the published weights? Imports a checkpoint of the published NVAE as a run.

Nothing in the file is executed. The model is built from the arguments stored in the file, and
`evaluate`, `sample` and `reconstruct` work on the run as on any other.

    python -m experiments import-nvae checkpoint.pt
    python -m experiments import-nvae checkpoint.pt --out runs/nvae-mnist
    python -m experiments import-nvae checkpoint.pt --data-root ~/data
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from experiments.reports.page import finish
from experiments.reports.words.titles import subject
from experiments.runs.checkpoint import packed, save_weights
from experiments.runs.cli import cli
from experiments.runs.metrics import Metrics
from experiments.runs.run import Run
from experiments.training.nvae.reference_checkpoint import DATA, pair_of, read_checkpoint
from ppl_models.nvae.reference_options import options_of_args


@dataclass(frozen=True)
class Config:
    file: tyro.conf.Positional[Path]
    """Checkpoint of the published code (checkpoint.pt)."""
    out: Path | None = None
    """Run directory; by default runs/import-nvae-<time>."""
    data_root: Path | None = None
    """Directory of the data; by default $PPL_DATA, else ./data."""
    device: tyro.conf.Suppress[str] = "cpu"
    seed: tyro.conf.Suppress[int] = 0


def main(config: Config) -> dict[str, Any]:
    checkpoint = read_checkpoint(config.file)
    pair = pair_of(checkpoint)
    args = checkpoint["args"]
    model: Any = pair.model
    epochs = checkpoint.get("epoch")
    with Run("import-nvae", config) as run:
        run.options |= data_options(args, model)
        model_options, guide_options = options_of_args(args)
        del model_options["data_shape"], model_options["bits"]
        run.save_config(
            pair={
                "model": "nvae",
                "model_options": model_options,
                "guide": "top_down",
                "guide_options": guide_options,
            }
        )
        rest = {name: value for name, value in checkpoint.items() if name != "state_dict"}
        save_weights(run.path, pair, more={"reference.pt": packed(rest)})
        groups = " + ".join(map(str, model.groups_per_scale))
        run.say(
            f"{args['dataset']}: {pair.number_of_parameters} parameters, {groups} groups of "
            f"{model.latents} channels" + ("" if epochs is None else f", {epochs} epochs")
        )
        metrics = Metrics(
            "nvae",
            "top_down",
            run.options["data"],
            None,
            epochs=epochs or 0,
            parameters=pair.number_of_parameters,
        )
        title = f"{subject('nvae', metrics.data)}, imported from {config.file.name}"
        return finish(run, metrics, title, [], {})


def data_options(args: dict[str, Any], model: Any) -> dict[str, Any]:
    """The options of the data that a published model was trained on."""
    data, pad = DATA.get(args["dataset"], ("folder", 0))
    return {
        "data": data,
        "pad": pad,
        "binarize": "dynamic" if model.data_shape[0] == 1 else "none",
        "binarize_seed": 0,
        "rows": None,
        "dtype": str(model.top.dtype).removeprefix("torch."),
        "dequantize": False,
        "bits": args["num_x_bits"],
        "flip": False,
    }


if __name__ == "__main__":
    cli(Config, main)
