"""Sinks: videos appear whole or not at all and play at the right speed; a missing display is a sentence."""

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from cyclegan_edge.errors import SinkError
from cyclegan_edge.video.frames import BgrPicture, Frame
from cyclegan_edge.video.sinks import TeeSink, check_display, open_video

PICTURE: BgrPicture = np.full((48, 64, 3), (30, 30, 200), np.uint8)  # red


def frame_at(captured: float, index: int = 0) -> Frame:
    return Frame(PICTURE, captured, index)


def count(path: Path) -> int:
    capture = cv2.VideoCapture(str(path))
    frames = sum(1 for _ in iter(lambda: capture.read()[0], False))
    capture.release()
    return frames


@pytest.mark.parametrize("name", ["clip.mp4", "clip.avi"])
def test_each_picture_is_one_frame(tmp_path: Path, name: str) -> None:
    with open_video(tmp_path / name, size=(48, 64), fps=30, live=False) as sink:
        for index in range(7):
            sink.show(PICTURE, frame_at(100.0 * index, index))

    assert count(tmp_path / name) == 7


def test_a_live_video_plays_as_fast_as_it_happened(tmp_path: Path) -> None:
    with open_video(tmp_path / "clip.mp4", size=(48, 64), fps=10, live=True) as sink:
        for captured in (5.0, 5.1, 5.6, 5.61, 6.0):  # a gap of 0.5 s, and two in one tenth
            sink.show(PICTURE, frame_at(captured))

    assert count(tmp_path / "clip.mp4") == 11


def test_red_stays_red(tmp_path: Path) -> None:
    with open_video(tmp_path / "clip.avi", size=(48, 64), fps=30, live=False) as sink:
        sink.show(PICTURE, frame_at(0.0))

    capture = cv2.VideoCapture(str(tmp_path / "clip.avi"))
    _, bgr = capture.read()
    capture.release()
    np.testing.assert_allclose(bgr[24, 32], (30, 30, 200), atol=6)


def test_an_error_leaves_no_video_and_keeps_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"old")

    def record() -> None:
        with open_video(path, size=(48, 64), fps=30, live=False) as sink:
            sink.show(PICTURE, frame_at(0.0))
            raise RuntimeError("the loop broke")

    with pytest.raises(RuntimeError, match="the loop broke"):
        record()

    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["clip.mp4"]


def record_one(path: Path, picture: BgrPicture) -> None:
    with open_video(path, size=(48, 64), fps=30, live=False) as sink:
        sink.show(picture, frame_at(0.0, 3))


def test_a_picture_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"clip\.mp4 holds pictures of 64x48, but frame 3 is 10x8; record it again"):
        record_one(tmp_path / "clip.mp4", np.zeros((8, 10, 3), np.uint8))


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"should end in \.mp4 or \.avi, not in '\.gif'; name it clip\.mp4"):
        record_one(tmp_path / "clip.gif", PICTURE)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(SinkError, match=r"clip\.mp4 cannot be written \(.*\); name a video in another folder"):
        record_one(tmp_path / "file" / "clip.mp4", PICTURE)


def test_a_video_without_a_frame_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(SinkError, match="there was no frame to put in it"),
        open_video(tmp_path / "clip.mp4", size=(48, 64), fps=30, live=False),
    ):
        pass

    assert list(tmp_path.iterdir()) == []


def test_frames_that_did_not_reach_the_disk_are_noticed(tmp_path: Path) -> None:
    def record() -> None:
        with open_video(tmp_path / "clip.mp4", size=(48, 64), fps=30, live=False) as sink:
            sink.show(PICTURE, frame_at(0.0))
            (partial,) = tmp_path.iterdir()
            partial.unlink()  # the writer goes on with a file that has no name any more
            partial.write_bytes(b"")

    with pytest.raises(
        SinkError, match=r"clip\.mp4 was not written: 0 of 1 frames reached the disk, which has \d+ MB left"
    ):
        record()

    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_ends_the_video_while_it_can_be_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_video(tmp_path / "clip.mp4", size=(48, 64), fps=30, live=False) as sink:
        for index in range(30):
            sink.show(PICTURE, frame_at(0.0, index))
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5 << 20))
        with pytest.raises(SinkError, match=r"clip\.mp4 ends here: its disk has 5 MB left"):
            sink.show(PICTURE, frame_at(0.0, 30))

    assert count(tmp_path / "clip.mp4") == 30


class CountingSink:
    def __init__(self, wanted: bool) -> None:
        self.shown = 0
        self._wanted = wanted

    def show(self, picture: BgrPicture, frame: Frame) -> bool:
        self.shown += 1
        return self._wanted


def test_several_sinks_all_get_the_picture_and_one_can_end_it() -> None:
    first, second = CountingSink(wanted=False), CountingSink(wanted=True)

    wanted = TeeSink([first, second]).show(PICTURE, frame_at(0.0))

    assert not wanted
    assert (first.shown, second.shown) == (1, 1)
    assert TeeSink([]).show(PICTURE, frame_at(0.0))


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
