"""Pictures beside each other, and numbers on a picture."""

import numpy as np
import pytest

from cyclegan_edge.video import overlay
from cyclegan_edge.video.overlay import Layout, LiveView
from cyclegan_edge.video.timings import Recent, Stages


def test_side_by_side_puts_the_input_left() -> None:
    image, translated = np.full((2, 3, 3), 1, np.uint8), np.full((2, 3, 3), 2, np.uint8)

    joined = overlay.side_by_side(image, translated)

    assert joined[..., 0].tolist() == [[1, 1, 1, 2, 2, 2]] * 2


def test_numbers_are_drawn_on_a_copy_and_leave_the_rest_alone() -> None:
    picture = np.full((360, 640, 3), 200, np.uint8)
    lines = overlay.lines_of(Recent(frames=9, dropped=4, fps=24.96, median=Stages(1, 2, 30, 4, 5, 61)))

    drawn = overlay.draw(picture, lines)

    assert lines == ["25.0 fps   latency 61 ms   dropped 4", "prepare 2.0  run 30.0  restore 4.0  show 5.0 ms"]
    assert (picture == 200).all()
    assert (drawn[:300] == 200).all()
    assert (drawn[340:, :100] != 200).any()


@pytest.mark.parametrize(
    ("layout", "first_row"),
    [("translated", [2, 2, 2, 2]), ("side-by-side", [1, 1, 1, 1, 2, 2, 2, 2]), ("split", [1, 1, 255, 255])],
)
def test_each_layout_shows_its_part_of_input_and_output(layout: Layout, first_row: list[int]) -> None:
    image, translated = np.full((4, 4, 3), 1, np.uint8), np.full((4, 4, 3), 2, np.uint8)

    picture = LiveView(layout)(image, translated)

    assert picture[0, :, 0].tolist() == first_row
    assert (image == 1).all()
    assert (translated == 2).all()
