"""Teaching: self-checks for the labs, their data, and their student and teacher versions."""

import warnings

with warnings.catch_warnings():
    # Pyro imports tqdm, which in a notebook without ipywidgets warns of a plainer progress bar
    warnings.filterwarnings("ignore", message="IProgress not found")
    from experiments.teaching import check, lab

__all__ = ["check", "lab"]
