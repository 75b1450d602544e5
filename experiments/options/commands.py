"""The commands by name, and where they are. Nothing here imports torch."""

from pathlib import Path

COMMANDS = {
    "pca": "principal component analysis (lab 1)",
    "ppca": "probabilistic PCA (lab 2)",
    "bayesian-ppca": "PPCA with priors on its parameters, under Pyro's guides or NUTS",
    "nonlinear": "a nonlinear model without an encoder (lab 3)",
    "vae": "the variational autoencoder (lab 3)",
    "nvae": "the NVAE, a deep hierarchy of latents, trained or with shipped weights (lab 4)",
    "train": "any model, guide, objective and data set, including your own",
    "compare": "one model under several guides, or saved runs: table, paired differences, plots",
    "explore": "an interactive page of the latent space of a run",
    "animate": "an animation of training: encodings, evidence, posterior or k-hat",
    "evaluate": "bounds, latents and errors of a saved run",
    "refit": "another guide for the frozen decoder of a saved run",
    "gaps": "approximation and amortisation gaps of a guide, and k-hat of each image",
    "calibrate": "simulation-based calibration of a guide",
    "predictive": "posterior predictive checks of a saved run",
    "gradients": "gradient noise of each objective, for decoder and encoder",
    "sample": "images from a saved run: samples at temperatures, traversals, interpolations",
    "reconstruct": "reconstructions from a saved run, or completions of half-observed images",
    "sweep": "a grid of runs over guides, seeds and sizes, in parallel, and its table",
    "reproduce": "the table of the labs, or a published table, with its protocol",
    "import-nvae": "a checkpoint of the published NVAE as a run",
    "export-nvae": "a run as a checkpoint of the published NVAE, or as weights to ship",
    "labs": "the labs as notebooks: a version for students, one for teachers",
    "bench": "speed compared with hand-written PyTorch, Pyro and scikit-learn",
}


def module_of(command: str) -> str:
    """The module with the options and the ``main`` of a command."""
    name = command.replace("-", "_")
    script = Path(__file__).parents[1] / f"{name}.py"  # experiments to read and edit
    return f"experiments.{name}" if script.exists() else f"experiments.tools.{name}"
