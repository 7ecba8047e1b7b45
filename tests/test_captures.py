"""Sources: how they are told apart, what they say when they fail, and the order, colour and time of their frames."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from cyclegan_edge.errors import SourceError
from cyclegan_edge.images import write_image
from cyclegan_edge.video import captures
from cyclegan_edge.video.captures import CameraSource, csi_pipeline, has_gstreamer
from cyclegan_edge.video.frames import BgrPicture, Frame, Rendered
from cyclegan_edge.video.recorder import open_video
from cyclegan_edge.video.sources import open_source

RED: BgrPicture = np.full((48, 64, 3), (30, 30, 200), np.uint8)
BLUE: BgrPicture = np.full((48, 64, 3), (200, 30, 30), np.uint8)


class FakeCapture:
    """Gives the pictures and then nothing; knows the properties it is told."""

    def __init__(self, pictures: Sequence[BgrPicture], properties: dict[int, float] | None = None) -> None:
        self.released = False
        self._pictures: Iterator[BgrPicture] = iter(pictures)
        self._properties = properties or {}

    def read(self) -> tuple[bool, BgrPicture | None]:
        picture = next(self._pictures, None)
        return picture is not None, picture

    def get(self, prop: int, /) -> float:
        return self._properties.get(prop, 0.0)

    def release(self) -> None:
        self.released = True


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Ten frames at 20 fps: five red, five blue."""
    path = tmp_path / "clip.mp4"
    with open_video(path, size=(48, 64), fps=20) as sink:
        for index in range(10):
            picture = RED if index < 5 else BLUE
            sink.show(Rendered(Frame(picture, 0.0, index), picture, picture))
    return path


def test_a_file_gives_every_frame_in_order_and_in_bgr(clip: Path) -> None:
    source = open_source(str(clip))

    frames = list(iter(source.read, None))
    source.close()

    assert (source.size, source.fps, source.length, source.live) == ((48, 64), 20.0, 10, False)
    assert [frame.index for frame in frames] == list(range(10))
    assert [int(frame.image[..., 2].mean() > frame.image[..., 0].mean()) for frame in frames] == [1] * 5 + [0] * 5


@pytest.mark.parametrize(
    ("name", "length", "size"),
    [
        ("intel_bottle-detection.mp4", 1189, (360, 640)),
        ("intel_one-by-one-person.mp4", 1394, (432, 768)),
        ("me_MVI_4823_mjpeg.avi", 78, (480, 640)),
    ],
)
def test_real_clips_are_read_to_their_end(test_data: Path, name: str, length: int, size: tuple[int, int]) -> None:
    source = open_source(str(test_data / "clips" / name))

    count = sum(1 for _ in iter(source.read, None))
    source.close()

    assert (source.size, source.length, count) == (size, length, length)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(SourceError, match=r"The source nowhere\.mp4 is not there; use a camera's number, /dev/video0"):
        open_source("nowhere.mp4")


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds no picture; name a folder that does, or a video file"):
        open_source(str(tmp_path))


def test_a_file_without_video_is_refused_and_opencv_stays_quiet(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "notes.mp4"
    path.write_text("no video")

    with pytest.raises(SourceError, match=r"notes\.mp4 holds no video that can be decoded"):
        open_source(str(path))

    assert capfd.readouterr().err == ""


def test_the_log_level_of_opencv_is_given_back() -> None:
    before = captures._set_log_level(2)

    with pytest.raises(SourceError):
        open_source(str(Path(__file__)))

    assert captures._set_log_level(before) == 2


@pytest.mark.parametrize("text", ["97", "/dev/video97"])
def test_a_missing_camera_is_named_with_those_found(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captures, "cameras", lambda: ["/dev/video0", "/dev/video2"])

    with pytest.raises(
        SourceError, match="no camera /dev/video97: found /dev/video0, /dev/video2; plug one in, or try"
    ):
        open_source(text)


def test_a_machine_without_cameras_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captures, "cameras", list)

    with pytest.raises(
        SourceError, match=r"this machine has no /dev/video\*; plug one in, or try `--source synthetic`"
    ):
        open_source("97")


def test_a_device_that_is_no_camera_is_refused() -> None:
    with pytest.raises(SourceError, match=r"/dev/null is no camera, expected a /dev/video\*"):
        open_source("/dev/null")


@pytest.mark.skipif(has_gstreamer(), reason="this OpenCV has GStreamer")
def test_csi_needs_gstreamer_and_says_where_it_is() -> None:
    with pytest.raises(
        SourceError, match=r"csi://0 needs an OpenCV with GStreamer.*use JetPack's: `pip uninstall opencv-python`"
    ):
        open_source("csi://0")


def test_the_csi_pipeline_keeps_one_frame_and_drops_the_older() -> None:
    pipeline = csi_pipeline(1, (720, 1280), 30.0)

    assert pipeline.startswith("nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM), width=1280, height=720,")
    assert "framerate=30/1" in pipeline
    assert pipeline.endswith("! appsink drop=true max-buffers=1 sync=false")


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        SourceError, match=r"ftp://host/clip is of no known kind; use a camera's number, .* csi://0, rtsp://…"
    ):
        open_source("ftp://host/clip")


def test_a_stream_that_does_not_answer_is_named_without_its_password() -> None:
    with pytest.raises(SourceError, match=r"^http://127\.0\.0\.1:9/live does not answer with a video"):
        open_source("http://me:secret@127.0.0.1:9/live")


def test_a_file_cannot_be_asked_for_another_size(clip: Path) -> None:
    with pytest.raises(SourceError, match="has its own size and rate"):
        open_source(str(clip), size=(480, 640))


def test_a_camera_counts_from_the_driver_s_time_stamp_when_it_is_on_our_clock() -> None:
    capture = FakeCapture([BLUE], {cv2.CAP_PROP_POS_MSEC: 99_960.0, cv2.CAP_PROP_FPS: 25.0})

    source = CameraSource("camera", capture, RED, lambda: 100.0, driver_stamps=True)
    frame = source.read()

    assert frame.captured == pytest.approx(99.96)
    assert frame.image[0, 0].tolist() == [200, 30, 30]
    assert (source.stamp, source.fps) == ("the driver stamped it", 25.0)


@pytest.mark.parametrize("stamp", [0.0, 1.7e12, 100_100.0])
def test_a_camera_counts_from_reading_when_the_driver_s_clock_is_another(stamp: float) -> None:
    capture = FakeCapture([BLUE], {cv2.CAP_PROP_POS_MSEC: stamp})

    source = CameraSource("camera", capture, RED, lambda: 100.0, driver_stamps=True)

    assert source.read().captured == 100.0
    assert source.stamp == "it was read"


def test_a_camera_that_stops_says_so() -> None:
    source = CameraSource("camera /dev/video0", FakeCapture([]), RED, lambda: 0.0)

    with pytest.raises(SourceError, match="camera /dev/video0 stopped giving pictures; check its cable"):
        source.read()


def test_synthetic_is_a_moving_summer_of_the_size_asked_for() -> None:
    source = open_source("synthetic", size=(64, 96), fps=10)

    frames = [source.read() for _ in range(30)]

    images = [frame.image for frame in frames if frame is not None]
    assert all(image.shape == (64, 96, 3) and image.dtype == np.uint8 for image in images)
    assert (images[0] != images[29]).any()
    blue, green, red = images[0][48:].reshape(-1, 3).mean(axis=0)  # meadow
    assert green > max(red, blue)


def test_synthetic_returns_to_where_it_began() -> None:
    source = open_source("synthetic", size=(64, 96), fps=1)

    frames = [source.read() for _ in range(25)]

    assert frames[0] is not None
    assert frames[24] is not None
    np.testing.assert_array_equal(frames[0].image, frames[24].image)


def test_a_folder_gives_its_pictures_by_name_in_the_size_of_the_first(tmp_path: Path) -> None:
    write_image(tmp_path / "b.png", np.full((20, 20, 3), 255, np.uint8))
    write_image(tmp_path / "a.png", np.full((40, 80, 3), (200, 30, 30), np.uint8))

    source = open_source(str(tmp_path), fps=2)
    frames = list(iter(source.read, None))

    assert (source.size, source.fps, source.length, source.live) == ((40, 80), 2, 2, False)
    assert frames[0].image[0, 0].tolist() == [30, 30, 200]
    assert frames[1].image.shape == (40, 80, 3)
    assert frames[1].image[20, 40].tolist() == [255, 255, 255]
    assert frames[1].image[20, 0].tolist() == [0, 0, 0], "the rest is black"


def test_a_camera_whose_jpegs_hold_stray_bytes_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    encoded = cv2.imencode(".jpg", RED)[1].tobytes()
    stray = np.frombuffer(encoded[:-2] + bytes(40) + encoded[-2:], np.uint8)
    cv2.imdecode(stray, cv2.IMREAD_COLOR)
    assert "extraneous bytes" in capfd.readouterr().err

    class MjpegCapture(FakeCapture):
        def read(self) -> tuple[bool, BgrPicture | None]:
            return True, np.asarray(cv2.imdecode(stray, cv2.IMREAD_COLOR), np.uint8)

    source = CameraSource("camera", MjpegCapture([]), RED, lambda: 0.0)
    source.read()

    assert capfd.readouterr().err == ""
