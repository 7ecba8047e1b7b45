"""`cyclegan-edge webcam` as a person types it, with a model that inverts colours and the synthetic source."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from cyclegan_edge.cli import app
from cyclegan_edge.errors import BundleError, ConfigError, SinkError, SourceError
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
    assert "tensorrt was passed over" in result.output
    assert "Source  synthetic, 640x360 at 30 fps" in result.output
    assert "The newest frame wins." in result.output
    assert "capture to show" in result.output
    assert "5 frames in" in result.output
    assert "Next: cyclegan-edge webcam models/negative" in result.output


def test_a_recording_of_synthetic_holds_every_frame_side_by_side(folder: Path) -> None:
    out = folder / "clip.mp4"

    options = ["--frames", "6", "--side-by-side", "--fit", "native", "--no-overlay"]
    result = run("--source", "synthetic", "--camera-size", "96x64", "--out", str(out), *options)

    assert result.exit_code == 0, result.output
    assert "Every frame, in order." in result.output
    frames = pictures(out)
    assert len(frames) == 6
    assert frames[0].shape == (64, 192, 3)
    left, right = frames[0][:, :96].mean(axis=(0, 1)), frames[0][:, 96:].mean(axis=(0, 1))
    np.testing.assert_allclose(left, 255 - right, atol=10)  # levels that the codec takes


def test_a_file_is_translated_frame_by_frame(folder: Path) -> None:
    run("--source", "synthetic", "--camera-size", "96x64", "--out", "in.mp4", "--frames", "9")

    result = run("--source", "in.mp4", "--out", "out.mp4")

    assert result.exit_code == 0, result.output
    assert len(pictures(folder / "out.mp4")) == 9
    assert "9 frames in" in result.output
    assert "0 dropped" in result.output


def test_the_page_and_a_recording_together(folder: Path) -> None:
    pytest.importorskip("uvicorn", reason="the extra [web] is not installed")

    result = run("--source", "synthetic", "--web", "--port", "0", "--out", "clip.mp4", "--frames", "3")

    assert result.exit_code == 0, result.output
    assert "Shown   at http://127.0.0.1:" in result.output
    assert (folder / "clip.mp4").is_file()


def test_what_was_recorded_before_the_source_broke_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Breaking:
        name, size, fps, live, length, stamp = "camera", (64, 96), 30.0, False, None, "it was read"
        given = 0

        def read(self) -> Frame:
            if self.given == 4:
                raise SourceError("The cable is out.")
            self.given += 1
            return Frame(np.zeros((64, 96, 3), np.uint8), 0.0, self.given - 1)

        def close(self) -> None:
            pass

    monkeypatch.setattr(sources, "open_source", lambda *_, **__: Breaking())

    result = run("--out", "clip.mp4")

    assert isinstance(result.exception, SourceError)
    assert str(result.exception) == "The cable is out."
    assert "4 frames in" in result.output
    assert len(pictures(folder / "clip.mp4")) == 4


def test_ctrl_c_is_an_end_like_any_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted:
        name, size, fps, live, length, stamp = "camera", (64, 96), 30.0, False, None, "it was read"
        given = 0

        def read(self) -> Frame:
            if self.given == 2:
                raise KeyboardInterrupt
            self.given += 1
            return Frame(np.zeros((64, 96, 3), np.uint8), 0.0, self.given - 1)

        def close(self) -> None:
            pass

    monkeypatch.setattr(sources, "open_source", lambda *_, **__: Interrupted())

    result = run("--out", "clip.mp4")

    assert result.exit_code == 0, result.output
    assert len(pictures(folder / "clip.mp4")) == 2


def test_no_model_is_an_error_with_the_command_that_makes_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    result = run("--source", "synthetic", "--headless")

    assert isinstance(result.exception, BundleError)
    assert "make one with `cyclegan-edge export`" in str(result.exception)


def test_a_wrong_camera_size_is_an_error_with_a_right_one(folder: Path) -> None:
    result = run("--source", "synthetic", "--headless", "--camera-size", "big")

    assert isinstance(result.exception, ConfigError)
    assert str(result.exception) == "camera-size is 'big', expected WIDTHxHEIGHT in pixels; try 640x480."


def test_the_source_is_never_recorded_over(folder: Path) -> None:
    (folder / "clip.mp4").write_bytes(b"precious")

    result = run("--source", "clip.mp4", "--out", "clip.mp4")

    assert isinstance(result.exception, SinkError)
    assert (folder / "clip.mp4").read_bytes() == b"precious"


def test_a_window_without_a_display_is_refused_before_anything_is_opened(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)

    result = run("--source", "97")

    assert isinstance(result.exception, SinkError)
