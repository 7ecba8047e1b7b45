"""Where the crop of a picture lies, in each mode."""

import numpy as np
import pytest

from cyclegan_edge.errors import ImageError
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


@pytest.mark.parametrize(
    ("mode", "shape", "facts"),
    [
        ("scale_width", (65535, 1), r"1x65535 px.*scale_width makes 72x4718520, more than 16 times as long as wide"),
        ("scale_short_side", (1, 65535), r"65535x1 px.*makes 4718520x72, more than 16 times"),
        ("scale_short_side", (10, 170), r"170x10 px.*makes 1224x72, more than 16 times"),
        ("none", (8192, 4096), r"makes 4096x8192, more than"),
        ("none", (1, 1), r"makes 4x4, less than 32 px a side"),
        ("short_side_and_crop", (65535, 1), r"makes 72x4718520, more than 1048576 px a side"),
        ("crop", (1, 65535), r"makes 4194240x64, more than"),
    ],
)
def test_what_scaling_makes_too_large_or_too_small_is_refused_by_name(
    mode: Mode, shape: tuple[int, int], facts: str
) -> None:
    crops = Crops(pictures=PicturesConfig(mode=mode), load_size=72, size=64, multiple=4, seed=0, smallest=32)
    fine = np.zeros((64, 96, 3), np.uint8)

    with pytest.raises(ImageError, match=rf"long\.png has .*{facts}"):
        crops.check(np.broadcast_to(fine[:1, :1], (*shape, 3)), "long.png")
    assert crops.check(fine, "fine.png") is fine
