"""The published NVAE's own numbers: fixtures of its arithmetic, where they lie at hand."""

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

HOMES = (os.environ.get("PPL_GOLDEN"), "golden", "../shared/golden")
GOLDEN = next((Path(h) for h in HOMES if h and (Path(h) / "tables.json").exists()), None)
FIXTURES = sorted(
    path.stem
    for path in (GOLDEN.glob("*.json") if GOLDEN else ())
    if (GOLDEN / f"{path.stem}.npz").exists() and path.stem != "dist"
)


class Fixture:
    """A fixture's inputs, and its outputs to compare with.

    In float64 to 1e-9 of the largest entry, in float32 to ten times what the published code loses.
    """

    def __init__(self, name: str, dtype: torch.dtype = torch.float64) -> None:
        assert GOLDEN is not None
        self.dtype = dtype
        self.facts: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text())
        self.arrays = dict(np.load(GOLDEN / f"{name}.npz"))
        self.unseen = set(self.facts.get("stored", {}))

    def __contains__(self, key: str) -> bool:
        return any(re.sub("@.*", "", name) == key for name in self.arrays)

    def input(self, key: str) -> Tensor:
        return torch.from_numpy(self.arrays[key]).to(self.dtype)

    def inputs(self, prefix: str) -> list[Tensor]:
        count = len(self.facts["latent_shapes"])
        return [self.input(f"{prefix}/{i}") for i in range(count)]

    def check(self, key: str, value: Tensor, tolerance: float = 1e-9) -> None:
        """Every form in which an output is stored equals ``value``; one not stored is let pass."""
        forms = {k: v for k, v in self.arrays.items() if re.sub("@.*", "", k) == key}
        for name, stored in forms.items():
            expected = torch.from_numpy(np.asarray(stored)).double()
            mark = name[len(key) :]
            found = value.detach().double()
            if mark == "@mean":
                found = found.mean((-2, -1))
            elif mark == "@msq":
                found = found.square().mean((-2, -1))
            elif mark.startswith("@::"):
                step = int(mark[3:])
                found = found[..., ::step, ::step]
            allowed = 1e-6 if mark == "@f32" else tolerance
            largest = expected.nan_to_num().abs().max().clamp(min=1e-300)
            if self.dtype == torch.float32:
                lost = self.facts["float32_deviation"].get(key)
                if lost is None:  # nothing is promised
                    continue
                allowed = max(10 * lost["max_abs"] / largest, 1e-6)  # as float32 tables
            assert found.shape == expected.shape, (name, found.shape, expected.shape)
            assert (found.isnan() == expected.isnan()).all(), name
            error = (found - expected).nan_to_num().abs().max() / largest
            assert error <= allowed, f"{name}: {error:.2e} > {allowed:.0e}"
            self.unseen.discard(name)

    def missed(self, prefixes: str | tuple[str, ...]) -> list[str]:
        """Stored outputs that nothing was compared with."""
        keys = self.unseen
        if self.dtype == torch.float32:
            keys = keys & set(self.facts["float32_deviation"])
        return sorted(key for key in keys if key.startswith(prefixes))
