"""A step's loss and gradients as one compiled graph."""

from experiments.inference.compiled.gradients import CompiledGradients, CompileWarning

__all__ = ["CompileWarning", "CompiledGradients"]
