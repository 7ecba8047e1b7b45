"""Recordings survive what ends the process, play at the right speed, and never replace another file."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from cyclegan_edge.errors import SinkError
from cyclegan_edge.video import encode, recorder
from cyclegan_edge.video.encode import OpenCvWriter, open_writer
from cyclegan_edge.video.frames import BgrPicture, Frame, Rendered
from cyclegan_edge.video.recorder import Recorder, open_recording, open_video

PICTURE: BgrPicture = np.full((48, 64, 3), (30, 30, 200), np.uint8)  # red


def rendered(captured: float = 0.0, index: int = 0, picture: BgrPicture = PICTURE) -> Rendered:
    return Rendered(Frame(picture, captured, index), picture, picture)


def pictures(path: Path) -> list[BgrPicture]:
    capture = cv2.VideoCapture(str(path))
    frames = [np.asarray(picture, np.uint8) for given, picture in iter(capture.read, (False, None)) if given]
    capture.release()
    return frames


def times(path: Path) -> list[float]:
    av = pytest.importorskip("av", reason="the extra [video] is not installed")
    with av.open(str(path)) as container:
        return [float(packet.pts * packet.time_base) for packet in container.demux(video=0) if packet.pts is not None]


@pytest.fixture
def without_av(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "has_av", lambda: False)
    monkeypatch.setattr(recorder, "has_av", lambda: False)


def record(path: Path, moments: Sequence[float], *, fps: float = 10, segment: float | None = None) -> list[str]:
    told: list[str] = []
    with open_recording(Recorder(path, fps=fps, segment=segment, notify=told.append)) as sink:
        for index, captured in enumerate(moments):
            sink.show(rendered(captured, index))
    return told


@pytest.mark.parametrize("name", ["clip.mp4", "clip.avi", "clip.mkv"])
def test_each_picture_of_a_video_is_one_frame(tmp_path: Path, name: str) -> None:
    with open_video(tmp_path / name, size=(48, 64), fps=30) as sink:
        for index in range(7):
            sink.show(rendered(100.0 * index, index))

    assert len(pictures(tmp_path / name)) == 7


@pytest.mark.usefixtures("without_av")
def test_each_picture_of_a_video_is_one_frame_without_pyav(tmp_path: Path) -> None:
    with open_video(tmp_path / "clip.mp4", size=(48, 64), fps=30) as sink:
        for index in range(7):
            sink.show(rendered(100.0 * index, index))

    assert len(pictures(tmp_path / "clip.mp4")) == 7


def test_red_stays_red(tmp_path: Path) -> None:
    for name in ("clip.mp4", "clip.avi"):
        with open_video(tmp_path / name, size=(48, 64), fps=30) as sink:
            sink.show(rendered())

        np.testing.assert_allclose(pictures(tmp_path / name)[0][24, 32], (30, 30, 200), atol=8)


def test_an_error_leaves_no_video_and_keeps_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"old")

    def work() -> None:
        with open_video(path, size=(48, 64), fps=30) as sink:
            sink.show(rendered())
            raise RuntimeError("the loop broke")

    with pytest.raises(RuntimeError, match="the loop broke"):
        work()

    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["clip.mp4"]


def one_video(path: Path, picture: BgrPicture) -> None:
    with open_video(path, size=(48, 64), fps=30) as sink:
        sink.show(rendered(index=3, picture=picture))


def test_a_picture_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"64x48, but frame 3 is 10x8"):
        one_video(tmp_path / "clip.mp4", np.zeros((8, 10, 3), np.uint8))


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"\.mp4, \.mkv or \.avi, not in '\.gif'; name it clip\.mp4"):
        one_video(tmp_path / "clip.gif", PICTURE)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(SinkError, match=r"clip\.mp4 cannot be written"):
        one_video(tmp_path / "file" / "clip.mp4", PICTURE)
    with pytest.raises(SinkError, match=r"clip\.mp4 cannot be written"):
        record(tmp_path / "file" / "clip.mp4", [0.0])


def test_a_video_without_a_frame_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(SinkError, match="there was no frame to put in it"),
        open_video(tmp_path / "clip.mp4", size=(48, 64), fps=30),
    ):
        pass

    assert list(tmp_path.iterdir()) == []


def test_frames_that_did_not_reach_the_disk_are_noticed(tmp_path: Path) -> None:
    def work() -> None:
        with open_video(tmp_path / "clip.avi", size=(48, 64), fps=30) as sink:
            sink.show(rendered())
            (partial,) = tmp_path.iterdir()
            partial.unlink()  # the writer goes on with a file that has no name any more
            partial.write_bytes(b"")

    with pytest.raises(SinkError, match=r"0 of 1 frames reached the disk, which has \d+ MB left"):
        work()

    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_ends_a_recording_while_it_can_be_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_recording(Recorder(tmp_path / "clip.mp4", fps=10)) as sink:
        for index in range(30):
            sink.show(rendered(index / 10, index))
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5 << 20))
        with pytest.raises(SinkError, match=r"clip\.mp4 ends here: its disk has 5 MB left"):
            sink.show(rendered(3.0, 30))

    assert len(pictures(tmp_path / "clip.mp4")) == 30


def test_pictures_are_written_once_at_the_time_they_were_captured(tmp_path: Path) -> None:
    moments = [5.0, 5.1, 5.6, 5.61, 47.0123]

    record(tmp_path / "clip.mp4", moments)

    assert times(tmp_path / "clip.mp4") == pytest.approx([it - 5.0 for it in moments], abs=0.005)


@pytest.mark.usefixtures("without_av")
def test_without_pyav_it_is_said_and_recorded_to_what_survives_a_kill(tmp_path: Path) -> None:
    told = record(tmp_path / "clip.mp4", [5.0, 5.1, 5.6, 5.61, 6.0])

    assert "pip install 'cyclegan-edge[video]'" in told[0]
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mkv"]
    assert len(pictures(tmp_path / "clip.mkv")) == 11  # at ten a second, repeated and left out so that it plays in time


def test_a_long_outage_is_not_filled_with_hours_of_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "_LONGEST_GAP", 2.0)
    writer = OpenCvWriter(tmp_path / "clip.avi", size=(48, 64), fps=10)

    writer.write(PICTURE, 0.0)
    writer.write(PICTURE, 500.0)
    writer.write(PICTURE, 500.1)
    writer.close()

    assert 20 <= len(pictures(tmp_path / "clip.avi")) <= 23


def test_a_recording_never_replaces_another(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"precious")

    told = record(tmp_path / "clip.mp4", [0.0, 0.1])
    record(tmp_path / "clip.mp4", [0.0, 0.1])

    assert (tmp_path / "clip.mp4").read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip-2.mp4", "clip-3.mp4", "clip.mp4"]
    assert "clip-2.mp4" in told[0]


def test_segments_begin_anew_each_so_many_seconds(tmp_path: Path) -> None:
    record(tmp_path / "clip.mp4", [index / 10 for index in range(25)], segment=1.0)

    lengths = sorted(len(pictures(path)) for path in tmp_path.iterdir())
    assert lengths == [5, 10, 10]
    assert all(path.name.startswith("clip-2") for path in tmp_path.iterdir())  # clip-20261126-..., by the clock


def test_pictures_of_another_size_go_to_a_file_of_their_own(tmp_path: Path) -> None:
    with open_recording(Recorder(tmp_path / "clip.mp4", fps=10)) as sink:
        sink.show(rendered(0.0))
        sink.show(rendered(0.1, picture=np.zeros((32, 32, 3), np.uint8)))

    assert pictures(tmp_path / "clip.mp4")[0].shape == (48, 64, 3)
    assert pictures(tmp_path / "clip-2.mp4")[0].shape == (32, 32, 3)


def test_odd_sizes_are_recorded(tmp_path: Path) -> None:
    with open_recording(Recorder(tmp_path / "clip.mp4", fps=10)) as sink:
        sink.show(rendered(picture=np.zeros((75, 101, 3), np.uint8)))

    assert pictures(tmp_path / "clip.mp4")[0].shape in {(76, 102, 3), (75, 101, 3)}


def test_recording_can_be_stopped_and_started_again(tmp_path: Path) -> None:
    sink = Recorder(tmp_path / "clip.mp4", fps=10, on=False)

    sink.show(rendered(0.0))
    sink.start()
    sink.show(rendered(0.1))
    sink.stop()
    sink.show(rendered(0.2))
    sink.start()
    sink.show(rendered(0.3))
    sink.stop()

    assert [len(pictures(tmp_path / name)) for name in ("clip.mp4", "clip-2.mp4")] == [1, 1]


def test_a_picture_with_a_notice_is_not_recorded(tmp_path: Path) -> None:
    with open_recording(Recorder(tmp_path / "clip.mp4", fps=10)) as sink:
        sink.show(rendered(0.0))
        sink.show(Rendered(Frame(PICTURE, 0.0, 0), PICTURE, PICTURE, notice="the camera is away"))

    assert len(pictures(tmp_path / "clip.mp4")) == 1


_RECORDS = """
import os, signal, sys
import numpy as np
from pathlib import Path
from cyclegan_edge.video.frames import Frame, Rendered
from cyclegan_edge.video.recorder import Recorder
recorder = Recorder(Path(sys.argv[1]), fps=10)
rng = np.random.default_rng(0)
for index in range(100):
    picture = np.repeat(np.repeat(rng.integers(0, 256, (45, 80, 3), dtype=np.uint8), 8, 0), 8, 1)
    recorder.show(Rendered(Frame(picture, index / 10, index), picture, picture))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi"])
def test_a_kill_costs_at_most_the_last_two_seconds(tmp_path: Path, name: str) -> None:
    ended = subprocess.run([sys.executable, "-c", _RECORDS, str(tmp_path / name)], capture_output=True, check=False)

    assert ended.returncode == -signal.SIGKILL
    assert len(pictures(tmp_path / name)) >= 80  # of 100, ten a second


def record_until(error: BaseException, path: Path) -> None:
    with open_recording(Recorder(path, fps=10)) as sink:
        for index in range(5):
            sink.show(rendered(index / 10, index))
        raise error


def test_errors_of_every_kind_leave_what_was_recorded(tmp_path: Path) -> None:
    for number, error in enumerate((RuntimeError("broke"), MemoryError(), KeyboardInterrupt())):
        path = tmp_path / f"clip{number}.mp4"
        with pytest.raises(type(error)):
            record_until(error, path)

        assert len(pictures(path)) == 5


def test_writers_leave_no_descriptor_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    for number in range(5):
        writer = open_writer(tmp_path / f"{number}.mp4", size=(48, 64), fps=10, survives=True)
        writer.write(PICTURE, 0.0)
        writer.close()

    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
