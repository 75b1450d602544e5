"""Images and sizes that an NVAE cannot have are refused; float32 images fit a float64 model."""

import pytest
import torch

from guides import GUIDES
from ppl_models import NVAE, Batch

SMALL = {"groups": (1, 1), "latents": 2, "channels": 2, "blocks": 1, "cells_per_block": 1}


@pytest.mark.parametrize("mixture", [1, 2])
@pytest.mark.parametrize("channels", [2, 4])
def test_images_of_two_or_four_channels_are_refused(channels, mixture):
    with pytest.raises(ValueError, match="1 or 3"):
        NVAE((channels, 8, 8), mixture=mixture, **SMALL)


@pytest.mark.parametrize("crop", [-1, 2, 3])
def test_a_crop_that_leaves_no_pixel_is_refused(crop):
    """With crop=2 every pixel of a 4x4 image is masked, so that log p(x | z) is 0."""
    with pytest.raises(ValueError, match="crop"):
        NVAE((1, 4, 4), crop=crop, **SMALL)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"groups": ()}, r"groups=\(\) must not be empty"),
        ({"blocks": -1}, "blocks=-1 not negative"),
    ],
)
def test_no_groups_and_a_negative_number_of_blocks_are_refused(option, words):
    with pytest.raises(ValueError, match=words):
        NVAE((1, 8, 8), **SMALL | option)


@pytest.mark.parametrize("name", ["top_down", "bottom_up"])
def test_images_in_float32_are_encoded_in_the_precision_of_q(name):
    model = NVAE((1, 8, 8), crop=0, lean=True, **SMALL)  # float64
    x = torch.rand(2, 1, 8, 8).round().float()
    found = GUIDES[name](model).features(Batch.of(x))
    assert all(feature.dtype == torch.float64 for feature in found)
