"""The old place of ``experiments.errors``."""

from experiments.errors import *  # noqa: F403
