"""The window: a missing display is a sentence."""

import sys

import cv2
import pytest

from cyclegan_edge.errors import SinkError
from cyclegan_edge.video.sinks import check_display


@pytest.fixture
def linux(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "    GUI:                           QT5")
    return monkeypatch


def test_without_a_display_there_is_no_window(linux: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        SinkError, match=r"no display here \(neither DISPLAY nor WAYLAND_DISPLAY is set\); use --headless"
    ):
        check_display()


def test_a_display_that_does_not_answer_is_named_instead_of_ending_the_process(linux: pytest.MonkeyPatch) -> None:
    linux.setenv("DISPLAY", ":9876")

    with pytest.raises(SinkError, match="The display :9876 does not let OpenCV open a window"):
        check_display()


def test_an_opencv_without_windows_is_named(linux: pytest.MonkeyPatch) -> None:
    linux.setattr(cv2, "getBuildInformation", lambda: "    GUI:                           NONE")

    with pytest.raises(
        SinkError, match="was built without windows; install opencv-python instead of opencv-python-headless"
    ):
        check_display()
