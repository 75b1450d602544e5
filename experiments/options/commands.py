"""The commands by name, and where they are. Nothing here imports torch."""

from pathlib import Path

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
    "animate": "a picture that moves: encodings, evidence, posterior or k-hat during training",
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


def module_of(command: str) -> str:
    """The module with the options and the ``main`` of a command."""
    name = command.replace("-", "_")
    script = Path(__file__).parents[1] / f"{name}.py"  # experiments to read and edit
    return f"experiments.{name}" if script.exists() else f"experiments.tools.{name}"
