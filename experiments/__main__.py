"""The list of commands, and the one that was asked for."""

import difflib
import importlib
import sys

from experiments.options.installed import check_installed, not_installed
from experiments.options.streams import safe_streams

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "pca": "the lab's task 4.1: principal component analysis",
    "ppca": "the lab's task 4.2: probabilistic PCA",
    "bayesian-ppca": "PPCA with priors on its parameters, under Pyro's guides or NUTS",
    "nonlinear": "the lab's task 4.3: a nonlinear model without an encoder",
    "vae": "the lab's task 4.3: the variational autoencoder",
    "nvae": "the lab's task 4.4: a deep hierarchy of latents, trained or with shipped weights",
    "train": "any model x guide x objective x data",
    "compare": "one model under several guides, or saved runs: table, paired differences, plots",
    "explore": "the latent space of a run as one page to open in a browser",
    "animate": "a picture that moves: encodings, evidence or k-hat while a pair is trained",
    "evaluate": "bounds, latents and errors of a saved run",
    "refit": "the decoder of a saved run, frozen, under another guide",
    "gaps": "what a guide loses to its family and to its encoder, and on which images",
    "calibrate": "whether a guide's uncertainty is right, on data that the model makes",
    "predictive": "whether data that a run makes look like the data: posterior predictive checks",
    "gradients": "the noise of every objective's gradient, for the decoder and the encoder",
    "sample": "images from a saved run: at temperatures, latent by latent, between two images",
    "reconstruct": "reconstructions from a saved run, or completions of half-observed images",
    "sweep": "a grid of runs over guides, seeds and sizes, in parallel, and its table",
    "reproduce": "a table, the lab's or a published one, with its protocol",
    "import-nvae": "a checkpoint of the published NVAE as a run",
    "export-nvae": "a run as a checkpoint of the published NVAE, or as weights to ship",
    "labs": "the labs as notebooks: a version for students, one for teachers",
    "bench": "seconds per epoch against hand-written PyTorch, or per step of NVAE",
}

USAGE = """usage: python -m experiments COMMAND [OPTIONS]     (or: ppl COMMAND [OPTIONS])

One model, many guides. Commands:

{commands}

Start with
  python -m experiments compare --data digits        PPCA under every guide (no download)
  python -m experiments ppca --help                  what an experiment offers
  python -m experiments nvae --preset digits-tiny    a hierarchy of latents in seconds
"""


SCRIPTS = {
    "pca",
    "ppca",
    "bayesian-ppca",
    "nonlinear",
    "vae",
    "nvae",
    "train",
    "compare",
    "reproduce",
}
"""Experiments, in files to read and edit; the other commands are tools."""


def module_of(command: str) -> str:
    """The module with the options and the ``main`` of a command."""
    home = "experiments" if command in SCRIPTS else "experiments.tools"
    return f"{home}.{command.replace('-', '_')}"


def main() -> None:
    with safe_streams():
        run(sys.argv[1:])


def run(arguments: list[str]) -> None:
    """Run the command that the arguments name."""
    lines = "\n".join(f"  {name:<13} {words}" for name, words in COMMANDS.items())
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE.format(commands=lines))
        return
    name, *rest = arguments
    if name not in COMMANDS:
        from experiments.errors import one_line

        close = difflib.get_close_matches(name, COMMANDS, 1)
        near = f"did you mean {close[0]}? There" if close else "there"
        words = f"command '{one_line(name)}' is unknown; {near} are {', '.join(COMMANDS)}."
        print(f"error: {words}", file=sys.stderr)
        sys.exit(2)
    check_installed()
    try:
        module = importlib.import_module(module_of(name))
    except ModuleNotFoundError as error:
        if (error.name or "").startswith(("experiments", "guides", "ppl_models")):
            raise
        not_installed(error.name or str(error))
    from experiments.runs.cli import cli

    cli(module.Config, module.main, rest)


if __name__ == "__main__":
    main()
