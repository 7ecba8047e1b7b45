"""`cyclegan-edge webcam` as a person types it, with a model that inverts colours and the synthetic source."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from cyclegan_edge.cli import app
from cyclegan_edge.contract import Translate
from cyclegan_edge.errors import ConfigError, EngineError, SinkError, SourceError
from cyclegan_edge.images import write_image
from cyclegan_edge.video import sources
from cyclegan_edge.video.frames import BgrPicture, Frame


@pytest.fixture
def folder(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with one exported model in models/."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["webcam", *arguments])


def pictures(path: Path) -> list[BgrPicture]:
    capture = cv2.VideoCapture(str(path))
    frames = [np.asarray(picture, np.uint8) for given, picture in iter(capture.read, (False, None)) if given]
    capture.release()
    return frames


def test_it_takes_the_newest_model_and_says_what_it_does(folder: Path) -> None:
    result = run("--source", "synthetic", "--headless", "--frames", "5")

    assert result.exit_code == 0, result.output
    assert "Model   models/negative" in result.output
    assert "Engine  " in result.output
    assert "ncnn was passed over" in result.output
    assert "Source  synthetic, 640x360 at 30 fps" in result.output
    assert "The newest frame wins." in result.output
    assert "capture to show" in result.output
    assert "5 frames in" in result.output
    assert "Next: cyclegan-edge webcam models/negative" in result.output


def test_without_a_model_it_takes_the_one_that_comes_with_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    result = run("--source", "synthetic", "--headless", "--frames", "2", "--engine", "onnxruntime")

    assert result.exit_code == 0, result.output
    assert "Model   landscapes, which comes with the package" in result.output


def test_a_recording_of_synthetic_holds_every_frame_side_by_side(folder: Path, tiny_translated: Translate) -> None:
    out = folder / "clip.mp4"

    options = ["--frames", "6", "--side-by-side", "--fit", "native", "--no-overlay"]
    result = run("--source", "synthetic", "--camera-size", "96x64", "--out", str(out), *options)

    assert result.exit_code == 0, result.output
    assert "Every frame, in order." in result.output
    frames = pictures(out)
    assert len(frames) == 6
    assert frames[0].shape == (64, 192, 3)
    frame = frames[0][..., ::-1]  # OpenCV reads BGR
    expected = tiny_translated(frame[None, :, :96])[0]
    np.testing.assert_allclose(frame[:, 96:].mean(axis=(0, 1)), expected.mean(axis=(0, 1)), atol=10)  # the codec's


def test_a_file_is_translated_frame_by_frame(folder: Path) -> None:
    run("--source", "synthetic", "--camera-size", "96x64", "--out", "in.mp4", "--frames", "9")

    result = run("--source", "in.mp4", "--out", "out.mp4")

    assert result.exit_code == 0, result.output
    assert len(pictures(folder / "out.mp4")) == 9
    assert "9 frames in" in result.output
    assert "0 dropped" in result.output


def test_the_page_and_a_recording_together(folder: Path) -> None:
    pytest.importorskip("websockets", reason="the extra [web] is not installed")

    result = run("--source", "synthetic", "--web", "--port", "0", "--out", "clip.mp4", "--frames", "3")

    assert result.exit_code == 0, result.output
    assert "Shown   at http://127.0.0.1:" in result.output
    assert (folder / "clip.mp4").is_file()


class Ending:
    """A file source of `count` frames that ends with `error`."""

    name, size, fps, live, stamp = "clip", (64, 96), 30.0, False, "it was read"

    def __init__(self, count: int, error: BaseException) -> None:
        self.length: int | None = None
        self._count, self._given, self._error = count, 0, error

    def read(self) -> Frame:
        if self._given == self._count:
            raise self._error
        self._given += 1
        return Frame(np.zeros((64, 96, 3), np.uint8), float(self._given), self._given - 1)

    def close(self) -> None:
        pass


def test_what_was_recorded_before_the_source_broke_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "open_source", lambda *_, **__: Ending(4, SourceError("The cable is out.")))

    result = run("--out", "clip.mp4")

    assert isinstance(result.exception, SourceError)
    assert str(result.exception) == "The cable is out."
    assert "4 frames in" in result.output
    assert len(pictures(folder / "clip.mp4")) == 4


def test_ctrl_c_is_an_end_like_any_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "open_source", lambda *_, **__: Ending(2, KeyboardInterrupt()))

    result = run("--out", "clip.mp4")

    assert result.exit_code == 0, result.output
    assert len(pictures(folder / "clip.mp4")) == 2


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_or_two_at_once_finish_the_recording_and_end_within_seconds(
    folder: Path, sent: signal.Signals
) -> None:
    options = ["--source", "synthetic", "--web", "--port", "0", "--out", "clip.mp4"]
    command = [sys.executable, "-m", "cyclegan_edge", "webcam", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    while "Recording to" not in process.stdout.readline():
        pass

    process.send_signal(sent)
    process.send_signal(sent)
    said, _ = process.communicate(timeout=120)

    assert process.returncode == 0, said
    assert "clip.mp4 is finished" in said
    assert "capture to show" in said
    assert "Traceback" not in said
    assert len(pictures(folder / "clip.mp4")) > 0


def test_a_wrong_camera_size_is_an_error_with_a_right_one(folder: Path) -> None:
    result = run("--source", "synthetic", "--headless", "--camera-size", "big")

    assert isinstance(result.exception, ConfigError)
    assert str(result.exception) == "camera-size is 'big', expected WIDTHxHEIGHT in pixels; try 640x480."


def test_the_source_is_never_recorded_over(folder: Path) -> None:
    (folder / "clip.mp4").write_bytes(b"precious")

    result = run("--source", "clip.mp4", "--out", "clip.mp4")

    assert isinstance(result.exception, SinkError)
    assert (folder / "clip.mp4").read_bytes() == b"precious"


@pytest.fixture
def no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)


@pytest.mark.usefixtures("no_display")
def test_without_a_display_it_runs_without_a_window_and_says_so(folder: Path) -> None:
    result = run("--source", "synthetic", "--frames", "3")

    assert result.exit_code == 0, result.output
    assert "Nothing is shown: There is no display here" in result.output
    assert "3 frames in" in result.output


@pytest.mark.usefixtures("no_display")
def test_a_window_that_was_asked_for_is_refused_before_anything_is_opened(folder: Path) -> None:
    result = run("--source", "97", "--window")

    assert isinstance(result.exception, SinkError)
    assert "no display" in str(result.exception)


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An X server without a screen."""
    if shutil.which("Xvfb") is None or shutil.which("xdotool") is None:
        pytest.skip("needs Xvfb and xdotool")
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "800x600x24"]
    server = subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as answer:
        name = f":{answer.readline().strip()}"
    monkeypatch.setenv("DISPLAY", name)
    yield name
    server.terminate()
    server.wait(60)


def test_a_window_fits_the_screen_and_its_keys_work(folder: Path, display: str) -> None:
    options = ["--source", "synthetic", "--camera-size", "1280x720", "--window"]
    command = [sys.executable, "-m", "cyclegan_edge", "webcam", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    said = [process.stdout.readline()]
    while "Warm-up" not in said[-1]:
        said.append(process.stdout.readline())

    def pressed(key: str, until: str) -> None:
        """Press until the key was taken: the window takes a moment to be there."""
        while until not in said[-1]:
            subprocess.run(["xdotool", "search", "--sync", "--name", "cyclegan-edge", "key", key], check=True)
            said.append(process.stdout.readline() if process.stdout else "")

    geometry = subprocess.run(
        ["xdotool", "search", "--sync", "--name", "cyclegan-edge", "getwindowgeometry"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    pressed("s", "Snapshot")
    pressed("r", "Recording to")
    subprocess.run(["xdotool", "search", "--name", "cyclegan-edge", "key", "q"], check=True)
    rest, _ = process.communicate(timeout=120)

    width, height = map(int, geometry.split()[-1].split("x"))
    assert (width, height) == (720, 405), "nine tenths of the screen, in the shape of the picture"
    assert process.returncode == 0, rest
    assert len(list(folder.glob("snapshot-*.png"))) >= 1
    assert len(pictures(folder / "recording.mp4")) > 0


def test_a_gpu_that_is_required_and_missing_ends_it(folder: Path) -> None:
    result = run("--source", "synthetic", "--headless", "--require", "gpu", "--engine", "onnxruntime")

    assert isinstance(result.exception, EngineError)
    assert "--require gpu" in str(result.exception)


def test_a_file_can_be_looped_and_watched(folder: Path) -> None:
    run("--source", "synthetic", "--camera-size", "96x64", "--out", "in.mp4", "--frames", "5")

    result = run("--source", "in.mp4", "--loop", "--headless", "--frames", "12")

    assert result.exit_code == 0, result.output
    assert "12 frames in" in result.output


def test_a_folder_is_translated_picture_by_picture(folder: Path) -> None:
    for number in range(3):
        write_image(folder / "photos" / f"{number}.png", np.full((64, 96, 3), 40 * number, np.uint8))

    result = run("--source", "photos", "--out", "out.mp4")

    assert result.exit_code == 0, result.output
    assert len(pictures(folder / "out.mp4")) == 3


def test_segments_are_named_by_the_clock(folder: Path) -> None:
    options = ["--web", "--port", "0", "--segment", "0.1s", "--camera-size", "96x64", "--frames", "45"]
    result = run("--source", "synthetic", *options, "--out", "clip.mp4")

    assert result.exit_code == 0, result.output
    assert len(list(folder.glob("clip-2*.mp4"))) >= 3


@pytest.mark.parametrize("text", ["10", "m", "0m", "1d", "-1s"])
def test_a_segment_that_is_no_time_is_refused(folder: Path, text: str) -> None:
    result = run("--source", "synthetic", "--headless", "--segment", text)

    assert isinstance(result.exception, ConfigError)
    assert "try 10m" in str(result.exception)


def test_the_log_can_be_lines_of_json(folder: Path) -> None:
    result = run("--source", "synthetic", "--headless", "--frames", "5", "--log", "json")

    lines = [json.loads(line) for line in result.output.splitlines()]
    assert lines[-1]["frames"] == 5
    assert lines[-1]["age_ms"] > 0
    assert lines[-1]["engine_failures"] == 0


def test_a_certificate_without_its_key_is_refused(folder: Path) -> None:
    result = run("--source", "synthetic", "--web", "--cert", "chain.pem")

    assert isinstance(result.exception, ConfigError)


def test_a_browser_as_the_source_needs_the_page(folder: Path) -> None:
    result = run("--source", "browser", "--headless")

    assert isinstance(result.exception, SourceError)
    assert "add --web" in str(result.exception)


def test_a_static_scene_is_skipped_and_counted(folder: Path) -> None:
    write_image(folder / "photos" / "a.png", np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8))
    for name in ("b", "c", "d"):
        os.link(folder / "photos" / "a.png", folder / "photos" / f"{name}.png")

    result = run("--source", "photos", "--headless", "--skip")

    assert "3 of them were like the one before, and no engine ran" in result.output
