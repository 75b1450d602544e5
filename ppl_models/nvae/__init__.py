"""NVAE (Vahdat & Kautz 2020): a deep hierarchy of latents, one Pyro program."""

from ppl_models.nvae.program import NVAE

__all__ = ["NVAE"]
