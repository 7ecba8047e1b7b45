"""Where the crop of a picture lies, in each mode."""

import numpy as np
import pytest

from cyclegan_edge.train.data.crops import Crops, Mode, PicturesConfig


@pytest.mark.parametrize(
    ("mode", "full", "part"),
    [
        ("resize_and_crop", (72, 72), (64, 64)),
        ("short_side_and_crop", (72, 108), (64, 64)),
        ("scale_width_and_crop", (64, 96), (64, 64)),  # 72 wide would be 48 high, too low for the crop
        ("crop", (200, 300), (64, 64)),
        ("scale_width", (48, 72), (48, 72)),
        ("scale_short_side", (72, 108), (72, 108)),
        ("none", (200, 300), (200, 300)),
    ],
)
def test_each_mode_resizes_and_cuts_as_its_name_says(mode: Mode, full: tuple[int, int], part: tuple[int, int]) -> None:
    crops = Crops(pictures=PicturesConfig(mode=mode), load_size=72, size=64, multiple=4, seed=0)

    resized, (top, left, height, width) = crops.place(200, 300, np.random.default_rng(0))

    assert (resized, (height, width)) == (full, part)
    assert 0 <= top <= full[0] - height
    assert 0 <= left <= full[1] - width


@pytest.mark.parametrize("mode", ["crop", "short_side_and_crop", "scale_width_and_crop"])
def test_a_picture_too_small_for_its_crop_is_enlarged(mode: Mode) -> None:
    crops = Crops(pictures=PicturesConfig(mode=mode), load_size=64, size=64, multiple=4, seed=0)

    resized, part = crops.place(20, 50, np.random.default_rng(0))

    assert resized == (64, 160)
    assert part[2:] == (64, 64)
