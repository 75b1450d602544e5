"""Where benchmarks compute when the images are on a GPU; no GPU is needed to see that."""

import numpy as np
import pytest
import torch

from experiments.benchmarks import scaling, steps, timing
from experiments.benchmarks.closed_form import measure_closed_form


class OnAGpu:
    """Images as on a GPU: nothing can be done with them here before they are copied."""

    def __init__(self, x: torch.Tensor) -> None:
        self.x = x

    def __getitem__(self, rows: slice) -> "OnAGpu":
        return OnAGpu(self.x[rows])

    def cpu(self) -> torch.Tensor:
        return self.x


@pytest.mark.parametrize("name", [name for name in steps.SUBJECTS if "NVAE" not in name])
def test_pyro_takes_its_steps_on_the_device_of_the_images(name, monkeypatch):
    seen = []
    monkeypatch.setattr(steps, "pyro_steps", lambda *given: seen.append(given) or {})
    steps.peers(name, torch.rand(2, 1, 28, 28), torch.device("meta"))
    ((module, x, likelihood, _),) = seen
    assert {tensor.device.type for tensor in (x, *module.parameters())} == {"meta"}
    assert likelihood.args == (module,)


def test_processes_share_a_batch_on_the_cpu(monkeypatch):
    def spawn(share, given, number):
        *_, x, results = given
        assert isinstance(x, np.ndarray)
        assert len(x) == 512
        results.put([1.0, 2.0, 3.0])

    monkeypatch.setattr(scaling, "spawn", spawn)
    assert scaling.shared(OnAGpu(torch.rand(600, 1, 2, 2)), 2).median == 2.0


def test_closed_forms_are_all_fitted_on_the_cpu(monkeypatch):
    monkeypatch.setattr(timing, "VISIT", 0.0)
    x = torch.randn(200, 2) @ torch.randn(2, 6) + torch.randn(200, 6)
    rows = measure_closed_form(OnAGpu(x), 2, rounds=1)
    assert [row["dtype"] for row in rows] == ["float64"] * 3 + ["float32"] * 3
    pca, ours, _ = (row["log p(x)"] for row in rows[:3])
    assert abs(pca - ours) < 1e-3


def test_a_timing_waits_for_whatever_accelerator_there_is(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda: waited.append(True))
    assert timing.seconds_of_calls(lambda: None, 3) >= 0
    assert len(waited) == 2  # before and after


def test_peers_are_timed_in_a_process_that_passes_errors_on():
    x = torch.rand(2, 1, 28, 28, dtype=torch.float32)
    name = "lab VAE, B = 128"
    with timing.elsewhere(steps.peers, name, x, torch.device("cpu")) as ways:
        assert list(ways) == ["pyro.infer.SVI", "pyro.infer.SVI, validation off"]
        assert all(timing.seconds_of_calls(way, 2) > 0 for way in ways.values())
        missing = timing.Elsewhere("nothing", ways["pyro.infer.SVI"].connection)
        with pytest.raises(EOFError):  # the other process has ended with a KeyError
            missing()
