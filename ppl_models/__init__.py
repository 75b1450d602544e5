"""What generated the data: p(x, z), one model per file."""

from ppl_models.batch import Batch, data_plate
from ppl_models.nvae import NVAE
from ppl_models.pca import PCA
from ppl_models.ppca import PPCA
from ppl_models.program import Program
from ppl_models.sites import describe
from ppl_models.vae import VAE

__all__ = ["MODELS", "NVAE", "PCA", "PPCA", "VAE", "Batch", "Program", "data_plate", "describe"]

MODELS: dict[str, type[Program]] = {"ppca": PPCA, "vae": VAE, "nvae": NVAE}
"""Name -> class of model."""
