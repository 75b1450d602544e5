"""How many images the suites of bench need."""

import pytest

from experiments.tools import bench
from tests.shared.commands import refused


@pytest.mark.usefixtures("in_a_folder")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["scaling", "--rows", "100"], "--rows 100: scaling needs 2048 images or more."),
        (["steps", "--rows", "499"], "--rows 499: steps needs 500 images or more."),
        (["steps", "--only", "NVAE", "--rows", "31"], "steps needs 32 images"),
        (["all", "--rows", "500"], "scaling needs 2048 images"),
    ],
)
def test_bench_refuses_fewer_images_than_a_batch_has(words, said, capsys):
    refused(capsys, bench, words, said)


def test_bench_takes_as_many_images_as_its_batches_have():
    bench.check_rows(bench.Config(only="NVAE", rows=32), ["steps"])
    bench.check_rows(bench.Config(rows=2048), ["steps", "lab-vae", "scaling"])
    bench.check_rows(bench.Config(rows=1), ["lab-vae", "profile", "closed-form"])
    bench.check_rows(bench.Config(rows=1), ["nvae-step"])
