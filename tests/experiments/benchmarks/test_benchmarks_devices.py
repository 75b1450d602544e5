"""Where benchmarks compute when the images are on a GPU; no GPU is needed to see that."""

import pytest
import torch

from experiments.benchmarks import steps


@pytest.mark.parametrize("name", [name for name in steps.SUBJECTS if "NVAE" not in name])
def test_pyro_takes_its_steps_on_the_device_of_the_images(name, monkeypatch):
    seen = []
    monkeypatch.setattr(steps, "pyro_steps", lambda *given: seen.append(given) or {})
    steps.peers(name, torch.rand(2, 1, 28, 28), torch.device("meta"))
    ((module, x, likelihood, _),) = seen
    assert {tensor.device.type for tensor in (x, *module.parameters())} == {"meta"}
    assert likelihood.args == (module,)
